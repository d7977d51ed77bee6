//! Logs with more keys than a test could create over HTTP in reasonable time, written through the engine.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::{KeyCreated, KeyCreatedPersonal, Owner};
use keyledger_engine::domain::organization::{OrganizationCreated, OrganizationKind, OrganizationPersonal};
use keyledger_engine::domain::portfolio::ClientLinked;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::log::redb::{FILE_NAME, RedbLog, RedbOptions};
use keyledger_engine::log::{Append, AppendOutcome, EventLog, StreamHead};
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ClientLinkId, EventId, KeyId, OrganizationId};
use keyledger_engine::value::time::{Clock, SystemClock, Timestamp};
use keyledger_engine::value::token::{Token, TokenPrefix};
use keyledger_engine::vault::{self, Subject, Vault};
use rand::rngs::StdRng;

/// Appends per commit.
const GROUP_LEN: usize = 1_024;
/// One of this many keys is returned to the test.
const KEPT_EVERY: usize = 1_000;

/// A key of the log that the test can ask for.
#[derive(Debug, Clone)]
pub struct KeptKey {
    /// Its id.
    pub id: String,
    /// Its token.
    pub token: String,
}

/// Writes a log.
pub struct LargeLog {
    log: RedbLog,
    rng: StdRng,
    now: Timestamp,
    waiting: Vec<Append>,
}

impl LargeLog {
    /// Starts a log in a data directory that no server uses.
    ///
    /// # Panics
    /// When the directory cannot be written.
    #[must_use]
    pub fn begin(data: &Path, mut rng: StdRng) -> Self {
        fs::create_dir_all(data).unwrap();
        let vault = Arc::new(Vault::open(&data.join(vault::FILE_NAME)).unwrap());
        let log = RedbLog::open(&data.join(FILE_NAME), RedbOptions::default(), vault, &mut rng).unwrap();
        Self { log, rng, now: SystemClock.now(), waiting: Vec::new() }
    }

    /// Adds an organization.
    pub fn organization(&mut self, id: &str, kind: &str) {
        let id: OrganizationId = id.parse().unwrap();
        let kind: OrganizationKind = kind.parse().unwrap();
        let personal = OrganizationPersonal { name: None };
        let event = Event::OrganizationCreated(OrganizationCreated { kind }, personal);
        self.append(StreamId::Organization(id.clone()), id, event);
    }

    /// Links a client to a partner's portfolio.
    pub fn link(&mut self, partner: &str, client: &str) {
        let (partner_id, client_id): (OrganizationId, OrganizationId) =
            (partner.parse().unwrap(), client.parse().unwrap());
        let event = Event::ClientLinked(ClientLinked { client_id: client_id.clone() }, ());
        let stream = StreamId::ClientLink(ClientLinkId { partner_id: partner_id.clone(), client_id });
        self.append(stream, partner_id, event);
    }

    /// Adds keys of an organization, optionally for a client of its portfolio. Returns every thousandth key
    /// and the last one.
    pub fn keys(&mut self, organization: &str, client: Option<&str>, count: usize) -> Vec<KeptKey> {
        let organization_id: OrganizationId = organization.parse().unwrap();
        let owner = match client {
            Some(client) => Owner::client(client.parse().unwrap()),
            None => Owner::in_organization(false),
        };
        let mut kept = Vec::new();
        for number in 0..count {
            let Ok(id) = KeyId::generate(self.now, &mut self.rng);
            let Ok(token) = Token::generate(&TokenPrefix::default(), Environment::Production, &mut self.rng);
            let facts = KeyCreated {
                digest: token.digest(),
                hint: token.hint(),
                environment: Environment::Production,
                owner: owner.clone(),
                api_id: None,
                scopes: Vec::new(),
                expires_at: None,
            };
            let personal =
                KeyCreatedPersonal { user_id: None, name: None, description: None, metadata: None };
            self.append(StreamId::Key(id), organization_id.clone(), Event::KeyCreated(facts, personal));
            if number % KEPT_EVERY == 0 || number + 1 == count {
                kept.push(KeptKey { id: id.to_string(), token: token.expose().to_owned() });
            }
        }
        kept
    }

    fn append(&mut self, stream: StreamId, organization_id: OrganizationId, event: Event) {
        let Ok(id) = EventId::generate(self.now, &mut self.rng);
        self.waiting.push(Append {
            stream,
            expected: StreamHead::ABSENT,
            time: self.now,
            subject: Subject::Organization(organization_id.clone()),
            organization_id: Some(organization_id),
            actor: Actor::system(),
            request_id: None,
            causation: None,
            events: vec![(id, event)],
            command: None,
        });
        if self.waiting.len() == GROUP_LEN {
            self.flush();
        }
    }

    fn flush(&mut self) {
        for outcome in self.log.append(std::mem::take(&mut self.waiting)).unwrap() {
            assert!(matches!(outcome, AppendOutcome::Appended { .. }), "{outcome:?}");
        }
    }

    /// Writes the rest and closes the log, so that a server can start on it.
    pub fn finish(mut self) {
        self.flush();
    }
}
