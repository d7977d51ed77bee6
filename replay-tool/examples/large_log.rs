//! Makes a large log to measure with: `cargo run --release --example large_log -- DIR EVENTS`.
//!
//! A thousand organizations; of ten events after that, six create a key and four rename, revoke, reactivate or rotate
//! one of the last hundred thousand.

use std::collections::VecDeque;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use keyledger_engine::actor::{Actor, ActorKind};
use keyledger_engine::event::Event;
use keyledger_engine::id::{EventId, KeyId, OrganizationId};
use keyledger_engine::key::{
    Environment, KeyCreated, KeyCreatedPersonal, KeyRenamedPersonal, KeyRevoked, KeyRevokedPersonal,
    KeyRotated, Owner, RevocationReason,
};
use keyledger_engine::log::redb::{FILE_NAME, RedbLog, RedbOptions};
use keyledger_engine::log::{Append, AppendOutcome, EventLog, StreamHead};
use keyledger_engine::organization::{OrganizationCreated, OrganizationKind, OrganizationPersonal};
use keyledger_engine::record::StreamId;
use keyledger_engine::text::{Description, Name};
use keyledger_engine::time::Timestamp;
use keyledger_engine::token::{Digest, TokenHint};
use keyledger_engine::vault::{self, Subject, Vault};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const ORGANIZATIONS: u64 = 1_000;
const KEYS_CHANGED: usize = 100_000;
const GROUP_LEN: usize = 1_024;
const START: i64 = 1_790_000_000_000;

/// A key that can be changed, and how many of its changes there were.
struct Key {
    stream: StreamId,
    organization_id: OrganizationId,
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
            subject: Subject::Organization(organization_id.clone()),
            organization_id: Some(organization_id),
            actor,
            request_id: Some(format!("req_{:026}", self.number).into()),
            causation: None,
            events: vec![(id, event)],
            command: None,
        })
    }

    /// The next append, and the key that it changes.
    fn next(&mut self) -> Result<(Append, Option<Key>), Box<dyn Error>> {
        self.number += 1;
        if self.number <= ORGANIZATIONS {
            let id: OrganizationId = format!("org_{:026}", self.number).parse()?;
            let personal =
                OrganizationPersonal { name: Some(Name::new(&format!("Organization {}", self.number))?) };
            let event =
                Event::OrganizationCreated(OrganizationCreated { kind: OrganizationKind::Paid }, personal);
            let stream = StreamId::Organization(id.clone());
            return Ok((self.append(stream, id, StreamHead::ABSENT, event)?, None));
        }
        let changed = if self.rng.random_ratio(4, 10) { self.keys.pop_front() } else { None };
        let mut key = match changed {
            Some(key) => key,
            None => {
                let organization: u64 = self.rng.random_range(1..=ORGANIZATIONS);
                Key {
                    stream: StreamId::Key(KeyId::generate(self.time(), &mut self.rng)?),
                    organization_id: format!("org_{organization:026}").parse()?,
                    head: StreamHead::ABSENT,
                    changes: 0,
                }
            }
        };
        let event = if key.head == StreamHead::ABSENT { self.created()? } else { self.changed(key.changes)? };
        key.changes += 1;
        let append = self.append(key.stream.clone(), key.organization_id.clone(), key.head, event)?;
        Ok((append, Some(key)))
    }

    fn token(&mut self) -> (Digest, TokenHint) {
        let hint = TokenHint {
            start: format!("kl_live_{:04}", self.number % 10_000).into(),
            last_four: "wxyz".into(),
        };
        (Digest::from_bytes(self.rng.random()), hint)
    }

    fn created(&mut self) -> Result<Event, Box<dyn Error>> {
        let (digest, hint) = self.token();
        let facts = KeyCreated {
            digest,
            hint,
            environment: Environment::Production,
            owner: Owner::in_organization(false),
            api_id: None,
            scopes: Vec::new(),
            expires_at: None,
        };
        let personal = KeyCreatedPersonal {
            user_id: None,
            name: Some(Name::new(&format!("Integration {} of the billing team", self.number))?),
            description: Some(Description::new("Reads invoices every night")?),
            metadata: None,
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

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "name a directory and a number of events";
    let directory = PathBuf::from(arguments.next().ok_or(usage)?);
    let events: u64 = arguments.next().ok_or(usage)?.parse()?;
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
    Ok(())
}
