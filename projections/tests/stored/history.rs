//! Random histories of keys in in-memory logs. The same seed gives the same log.

// The generated events are valid by construction; anything else should stop the test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::sync::Arc;

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::{
    Key, KeyCreated, KeyCreatedPersonal, KeyDescriptionChangedPersonal, KeyExpired, KeyExpiryChanged,
    KeyMetadataChangedPersonal, KeyRenamedPersonal, KeyRevoked, KeyRevokedPersonal, KeyRotated,
    KeyScopesChanged, Owner, RevocationReason,
};
use keyledger_engine::domain::organization::{OrganizationCreated, OrganizationKind, OrganizationPersonal};
use keyledger_engine::domain::record::Record;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::log::memory::MemoryLog;
use keyledger_engine::log::{Append, AppendOutcome, EventLog, LogId, LogReader, StreamHead};
use keyledger_engine::value::actor::{Actor, ActorKind};
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApiId, EventId, KeyId, OrganizationId, RootKeyId};
use keyledger_engine::value::text::{Description, Metadata, Name, Note, Scope, UserId};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{Digest, TokenHint};
use keyledger_engine::vault::{Subject, Vault};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Words for names and descriptions.
pub(crate) const WORDS: [&str; 12] = [
    "production",
    "Billing",
    "CI",
    "deploy",
    "Straße",
    "ΟΔΟΣ",
    "ключ",
    "Ünïcödé",
    "mobile app",
    "Zürich",
    "test",
    "🔑",
];

pub(crate) const ORGANIZATIONS: [&str; 4] = ["acme", "globex", "initech", "umbrella"];

pub(crate) struct History {
    pub(crate) log: MemoryLog,
    pub(crate) rng: StdRng,
    pub(crate) keys: Vec<Key>,
    pub(crate) time: i64,
    pub(crate) organizations: Vec<OrganizationId>,
    heads: HashMap<StreamId, StreamHead>,
}

impl History {
    pub(crate) fn new(seed: u64) -> Self {
        Self::of_log(seed, LogId([7; 16]))
    }

    pub(crate) fn of_log(seed: u64, log_id: LogId) -> Self {
        Self {
            log: MemoryLog::new(log_id, Arc::new(Vault::in_memory().unwrap())),
            rng: StdRng::seed_from_u64(seed),
            keys: Vec::new(),
            time: 1_700_000_000_000,
            organizations: ORGANIZATIONS.iter().map(|id| id.parse().unwrap()).collect(),
            heads: HashMap::new(),
        }
    }

    /// Creates a history of this many events.
    pub(crate) fn with_events(seed: u64, count: usize) -> Self {
        let mut history = Self::new(seed);
        history.extend(count);
        history
    }

    pub(crate) fn reader(&self) -> Arc<dyn LogReader> {
        self.log.reader()
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.time)
    }

    pub(crate) fn extend(&mut self, count: usize) {
        for _ in 0..count {
            self.add_any();
        }
    }

    /// Appends a random event that is possible now.
    pub(crate) fn add_any(&mut self) {
        if self.rng.random_ratio(2, 5) {
            self.time += self.rng.random_range(0..5_000);
        }
        match self.rng.random_range(0..100) {
            0..2 => self.add_of_organization(),
            2..3 => self.add_of_root_key(),
            3..60 => {
                self.add_key();
            }
            _ if self.keys.is_empty() => {
                self.add_key();
            }
            _ => {
                let index = self.rng.random_range(0..self.keys.len());
                self.change(index);
            }
        }
    }

    fn add_of_organization(&mut self) {
        let id = self.pick_organization();
        let name = Some(self.name());
        let stream = StreamId::Organization(id.clone());
        let personal = OrganizationPersonal { name };
        let event = match self.heads.get(&stream) {
            None => {
                Event::OrganizationCreated(OrganizationCreated { kind: OrganizationKind::Paid }, personal)
            }
            Some(_) => Event::OrganizationRenamed((), personal),
        };
        self.append(stream, Some(id), event);
    }

    fn add_of_root_key(&mut self) {
        let stream = StreamId::RootKey(RootKeyId::from_u128(self.rng.random()));
        let facts = keyledger_engine::domain::root_key::RootKeyCreated {
            digest: Digest::from_bytes([0xdd; 32]),
            hint: TokenHint { start: "klroot_abcd".into(), last_four: "wxyz".into() },
            permissions: Vec::new(),
        };
        let personal = keyledger_engine::domain::root_key::RootKeyCreatedPersonal { name: None };
        self.append(stream, None, Event::RootKeyCreated(facts, personal));
    }

    fn pick_organization(&mut self) -> OrganizationId {
        let index = self.rng.random_range(0..self.organizations.len());
        self.organizations[index].clone()
    }

    pub(crate) fn text(&mut self) -> String {
        let count = self.rng.random_range(1..4);
        let words: Vec<&str> = (0..count).map(|_| WORDS[self.rng.random_range(0..WORDS.len())]).collect();
        format!("{} {}", words.join(" "), self.rng.random_range(0..50))
    }

    fn name(&mut self) -> Name {
        Name::new(&self.text()).unwrap()
    }

    fn optional<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.rng.random_ratio(2, 3).then(|| make(self))
    }

    fn scopes(&mut self) -> Vec<Scope> {
        (0..self.rng.random_range(0..3))
            .map(|_| Scope::new(["read:users", "write:users", "admin"][self.rng.random_range(0..3)]).unwrap())
            .collect()
    }

    fn hint(&mut self) -> TokenHint {
        let n: u32 = self.rng.random();
        TokenHint {
            start: format!("kl_live_{:04x}", n >> 16).into(),
            last_four: format!("{:04X}", n & 0xffff).into(),
        }
    }

    /// Creates a key and returns its index in `keys`.
    pub(crate) fn add_key(&mut self) -> usize {
        let millis = u64::try_from(self.time).unwrap();
        let id = KeyId::from_u128(u128::from(millis) << 80 | self.rng.random::<u128>() >> 48);
        let user_id =
            self.optional(|it| UserId::new(&format!("user-{}", it.rng.random_range(0..9))).unwrap());
        let facts = KeyCreated {
            digest: Digest::from_bytes(self.rng.random()),
            hint: self.hint(),
            environment: if self.rng.random() { Environment::Production } else { Environment::Preview },
            owner: match self.rng.random_range(0..4) {
                0 if user_id.is_none() => Owner::partner(),
                1 | 2 if user_id.is_none() => Owner::client(self.pick_organization()),
                _ => Owner::in_organization(user_id.is_some()),
            },
            api_id: self.optional(|it| ApiId::from_u128(it.rng.random_range(1..4))),
            scopes: self.scopes(),
            expires_at: self
                .optional(|it| Timestamp::from_millis(it.time + it.rng.random_range(0..2_000_000))),
        };
        let personal = KeyCreatedPersonal {
            user_id,
            name: self.optional(Self::name),
            description: self.optional(|it| Description::new(&it.text()).unwrap()),
            metadata: self
                .rng
                .random_ratio(1, 4)
                .then(|| Metadata::new(&serde_json::json!({ "team": 7 })).unwrap()),
        };
        let organization = self.pick_organization();
        let record = self.append(StreamId::Key(id), Some(organization), Event::KeyCreated(facts, personal));
        self.keys.push(Key::apply(None, &record).unwrap());
        self.keys.len() - 1
    }

    /// Appends a random event to a key.
    pub(crate) fn change(&mut self, index: usize) {
        let key = self.keys[index].clone();
        if key.deleted_at.is_some() {
            return;
        }
        let event = match self.rng.random_range(0..9) {
            0 | 1 => {
                let name = self.optional(Self::name);
                Event::KeyRenamed((), KeyRenamedPersonal { name })
            }
            2 => {
                let description = self.optional(|it| Description::new(&it.text()).unwrap());
                Event::KeyDescriptionChanged((), KeyDescriptionChangedPersonal { description })
            }
            3 => Event::KeyScopesChanged(KeyScopesChanged { scopes: self.scopes() }, ()),
            4 => {
                let expires_at =
                    self.optional(|it| Timestamp::from_millis(it.time + it.rng.random_range(0..2_000_000)));
                Event::KeyExpiryChanged(KeyExpiryChanged { expires_at }, ())
            }
            5 => Event::KeyMetadataChanged((), KeyMetadataChangedPersonal { metadata: None }),
            6 if key.revoked_at.is_some() => Event::KeyReactivated((), ()),
            6 => Event::KeyRevoked(
                KeyRevoked { reason: RevocationReason::Superseded },
                KeyRevokedPersonal { note: Some(Note::new("left the team").unwrap()) },
            ),
            7 => {
                let facts = KeyRotated {
                    digest: Digest::from_bytes(self.rng.random()),
                    hint: self.hint(),
                    previous_valid_until: self.now(),
                };
                Event::KeyRotated(facts, ())
            }
            _ => match key.expires_at {
                Some(expires_at) if expires_at <= self.now() => {
                    Event::KeyExpired(KeyExpired { expires_at }, ())
                }
                _ => Event::KeyDeleted((), ()),
            },
        };
        self.apply(index, event);
    }

    /// Appends an event to a key.
    pub(crate) fn apply(&mut self, index: usize, event: Event) {
        let key = self.keys[index].clone();
        let record = self.append(StreamId::Key(key.id), Some(key.organization_id.clone()), event);
        self.keys[index] = Key::apply(Some(key), &record).unwrap();
    }

    pub(crate) fn append(
        &mut self,
        stream: StreamId,
        organization_id: Option<OrganizationId>,
        event: Event,
    ) -> Record {
        let actor = match self.rng.random_range(0..4) {
            0 => Actor::system(),
            n => Actor {
                kind: ActorKind::RootKey,
                id: format!("rk_{n}").into(),
                ip: Some("192.0.2.7".parse().unwrap()),
                user_agent: Some("curl/8".into()),
            },
        };
        let append = Append {
            expected: self.heads.get(&stream).copied().unwrap_or(StreamHead::ABSENT),
            stream: stream.clone(),
            time: self.now(),
            subject: Subject::of(organization_id.as_ref(), None),
            organization_id,
            actor,
            // One in four has no request, and some share one.
            request_id: Some(self.rng.random_range(0..400_u32))
                .filter(|n| n % 4 != 0)
                .map(|n| format!("req-{n}").into()),
            causation: None,
            events: vec![(EventId::from_u128(self.rng.random()), event)],
            command: None,
        };
        let outcome = self.log.append(vec![append]).unwrap().remove(0);
        let AppendOutcome::Appended { mut records, head } = outcome else { panic!("{outcome:?}") };
        self.heads.insert(stream, head);
        records.remove(0)
    }
}
