//! Writes a large log for measurements: `cargo run --release --example large_log -- DIR EVENTS [clear]`.
//!
//! The log has a thousand organizations with twenty users each. Of every ten events after those, six create a
//! key: in either environment, for the organization or one of its users, some with scopes of an API, metadata
//! or an expiry. The other four rename, revoke, reactivate or rotate one of the last hundred thousand keys.
//! Personal parts are sealed, as the service seals them; `clear` writes them unsealed.

use std::collections::VecDeque;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyledger_engine::backup::reader::Entry;
use keyledger_engine::codec;
use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::{
    KeyCreated, KeyCreatedPersonal, KeyRenamedPersonal, KeyRevoked, KeyRevokedPersonal, KeyRotated, Owner,
    RevocationReason,
};
use keyledger_engine::domain::organization::{OrganizationCreated, OrganizationKind, OrganizationPersonal};
use keyledger_engine::domain::resource_api::ApiRegistered;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::log::redb::{FILE_NAME, RedbImport, RedbLog, RedbOptions, RedbReader};
use keyledger_engine::log::{Append, AppendOutcome, EventLog, LogReader, StreamHead};
use keyledger_engine::value::actor::{Actor, ActorKind};
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApiId, EventId, KeyId, OrganizationId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::text::{Audience, Description, Metadata, Name, Scope, UserId};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{Digest, TokenHint, TokenPrefix};
use keyledger_engine::vault::{self, Subject, Vault};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

const ORGANIZATIONS: u64 = 1_000;
const KEYS_CHANGED: usize = 100_000;
const API: ApiId = ApiId::from_u128(0x0193_5f00_0000_0000_0000_0000_0000_0007);
const SCOPES: [&str; 3] = ["read:invoices", "write:invoices", "read:users"];
const GROUP_LEN: usize = 1_024;
const START: i64 = 1_790_000_000_000;

/// A key that later events can change.
struct Key {
    stream: StreamId,
    organization_id: OrganizationId,
    user_id: Option<UserId>,
    head: StreamHead,
    changes: u32,
}

struct Generator {
    rng: StdRng,
    number: u64,
    keys: VecDeque<Key>,
}

impl Generator {
    fn time(&self) -> Timestamp {
        Timestamp::from_millis(START + i64::try_from(self.number).unwrap_or(i64::MAX) * 40)
    }

    fn append(
        &mut self,
        stream: StreamId,
        organization_id: OrganizationId,
        user_id: Option<&UserId>,
        expected: StreamHead,
        event: Event,
    ) -> Result<Append, Box<dyn Error>> {
        let time = self.time();
        let actor = Actor {
            kind: ActorKind::RootKey,
            id: "rk_01KAJX7Q5M3J6S2Y9W8V4T1R0P".into(),
            ip: Some([192, 0, 2, 7].into()),
            user_agent: Some("keyledger-client/1.0".into()),
        };
        let id = EventId::generate(time, &mut self.rng)?;
        Ok(Append {
            stream,
            expected,
            time,
            subject: Subject::of(Some(&organization_id), user_id),
            organization_id: Some(organization_id),
            actor,
            request_id: Some(format!("req_{:026}", self.number).into()),
            causation: None,
            events: vec![(id, event)],
            command: None,
        })
    }

    /// Returns the next append and the key that it changes.
    fn next(&mut self) -> Result<(Append, Option<Key>), Box<dyn Error>> {
        self.number += 1;
        if self.number <= ORGANIZATIONS {
            let id: OrganizationId = format!("org_{:026}", self.number).parse()?;
            let personal =
                OrganizationPersonal { name: Some(Name::new(&format!("Organization {}", self.number))?) };
            let event =
                Event::OrganizationCreated(OrganizationCreated { kind: OrganizationKind::Paid }, personal);
            let stream = StreamId::Organization(id.clone());
            return Ok((self.append(stream, id, None, StreamHead::ABSENT, event)?, None));
        }
        if self.number == ORGANIZATIONS + 1 {
            let event = Event::ApiRegistered(
                ApiRegistered {
                    name: Name::new("Invoices")?,
                    audience: Audience::new("https://invoices.example")?,
                    token_prefix: TokenPrefix::default(),
                    scopes: SCOPES.iter().map(|scope| Scope::new(scope)).collect::<Result<_, _>>()?,
                },
                (),
            );
            let id = format!("org_{:026}", 1).parse()?;
            let append = self.append(StreamId::Api(API), id, None, StreamHead::ABSENT, event)?;
            return Ok((Append { organization_id: None, subject: Subject::Installation, ..append }, None));
        }
        let changed = if self.rng.random_ratio(4, 10) { self.keys.pop_front() } else { None };
        let mut key = match changed {
            Some(key) => key,
            None => {
                let organization: u64 = self.rng.random_range(1..=ORGANIZATIONS);
                let user_id = match self.rng.random_ratio(1, 3) {
                    true => Some(UserId::new(&format!("user-{}", self.rng.random_range(0..20_u32)))?),
                    false => None,
                };
                Key {
                    stream: StreamId::Key(KeyId::generate(self.time(), &mut self.rng)?),
                    organization_id: format!("org_{organization:026}").parse()?,
                    user_id,
                    head: StreamHead::ABSENT,
                    changes: 0,
                }
            }
        };
        let event = match key.head {
            StreamHead::ABSENT => self.created(key.user_id.clone())?,
            _ => self.changed(key.changes)?,
        };
        key.changes += 1;
        let organization_id = key.organization_id.clone();
        let append =
            self.append(key.stream.clone(), organization_id, key.user_id.as_ref(), key.head, event)?;
        Ok((append, Some(key)))
    }

    fn token(&mut self) -> (Digest, TokenHint) {
        let hint = TokenHint {
            start: format!("kl_live_{:04}", self.number % 10_000).into(),
            last_four: "wxyz".into(),
        };
        (Digest::from_bytes(self.rng.random()), hint)
    }

    fn created(&mut self, user_id: Option<UserId>) -> Result<Event, Box<dyn Error>> {
        let (digest, hint) = self.token();
        let scoped = self.rng.random_ratio(1, 3);
        let scopes = SCOPES.iter().filter(|_| scoped);
        let facts = KeyCreated {
            digest,
            hint,
            environment: match self.rng.random_ratio(2, 3) {
                true => Environment::Production,
                false => Environment::Preview,
            },
            owner: Owner::in_organization(user_id.is_some()),
            api_id: scoped.then_some(API),
            scopes: scopes.map(|scope| Scope::new(scope)).collect::<Result<_, _>>()?,
            expires_at: self
                .rng
                .random_ratio(1, 4)
                .then(|| Timestamp::from_millis(self.time().millis() + 31_536_000_000)),
        };
        let metadata = json!({ "team": "billing", "ticket": self.number });
        let personal = KeyCreatedPersonal {
            user_id,
            name: Some(Name::new(&format!("Integration {} of the billing team", self.number))?),
            description: Some(Description::new("Reads invoices every night")?),
            metadata: self.rng.random_ratio(1, 4).then(|| Metadata::new(&metadata)).transpose()?,
        };
        Ok(Event::KeyCreated(facts, personal))
    }

    fn changed(&mut self, changes: u32) -> Result<Event, Box<dyn Error>> {
        Ok(match changes % 4 {
            1 => {
                let personal =
                    KeyRenamedPersonal { name: Some(Name::new(&format!("Renamed {}", self.number))?) };
                Event::KeyRenamed((), personal)
            }
            2 => Event::KeyRevoked(
                KeyRevoked { reason: RevocationReason::Superseded },
                KeyRevokedPersonal { note: None },
            ),
            3 => Event::KeyReactivated((), ()),
            _ => {
                let (digest, hint) = self.token();
                let previous_valid_until = self.time();
                Event::KeyRotated(KeyRotated { digest, hint, previous_valid_until }, ())
            }
        })
    }
}

/// Rewrites the log in `directory` with its personal parts unsealed.
fn unseal(directory: &Path) -> Result<(), Box<dyn Error>> {
    let vault = Vault::open_read_only(&directory.join(vault::FILE_NAME))?;
    let path = directory.join(FILE_NAME);
    let reader = RedbReader::open_read_only(&path, RedbOptions::default(), Arc::new(vault))?;
    let in_clear = directory.join("clear.redb");
    let mut import = RedbImport::create(&in_clear, RedbOptions::default(), reader.log_id())?;
    let (mut position, head) = (Position::START, reader.head()?);
    while position < head {
        let records = reader.read(position, GROUP_LEN)?;
        position = records.last().map_or(head, |record| record.position);
        let entry = |record| Ok(Entry { bytes: codec::encode(&record)?, record });
        import.append(&records.into_iter().map(entry).collect::<Result<Vec<_>, codec::Error>>()?)?;
    }
    import.finish()?;
    drop(reader);
    Ok(std::fs::rename(in_clear, path)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: large_log DIR EVENTS [clear]";
    let directory = PathBuf::from(arguments.next().ok_or(usage)?);
    let events: u64 = arguments.next().ok_or(usage)?.parse()?;
    let clear = arguments.next().is_some_and(|argument| argument == "clear");
    std::fs::create_dir_all(&directory)?;
    let mut rng = StdRng::seed_from_u64(1);
    let vault = Arc::new(Vault::open(&directory.join(vault::FILE_NAME))?);
    let mut log = RedbLog::open(&directory.join(FILE_NAME), RedbOptions::default(), vault, &mut rng)?;
    let mut generator = Generator { rng, number: 0, keys: VecDeque::new() };
    while generator.number < events {
        let left = usize::try_from(events - generator.number)?.min(GROUP_LEN);
        let (appends, keys): (Vec<_>, Vec<_>) =
            (0..left).map(|_| generator.next()).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        for (outcome, key) in log.append(appends)?.into_iter().zip(keys) {
            let AppendOutcome::Appended { head, .. } = outcome else {
                return Err("an append was refused".into());
            };
            generator.keys.extend(key.map(|key| Key { head, ..key }));
        }
        while generator.keys.len() > KEYS_CHANGED {
            generator.keys.pop_front();
        }
    }
    drop(log);
    if clear { unseal(&directory) } else { Ok(()) }
}
