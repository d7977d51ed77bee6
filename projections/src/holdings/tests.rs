use std::collections::HashMap as Model;
use std::thread;

use keyledger_engine::domain::application::{ApplicationCommand, ApplicationCreated};
use keyledger_engine::domain::key::{CreateKey, EditKey, KeyCommand, Owner};
use keyledger_engine::domain::organization::{OrganizationCommand, OrganizationKind};
use keyledger_engine::domain::portal_session::{PortalSessionCommand, PortalSessionCreated};
use keyledger_engine::domain::root_key::{RootKeyCommand, RootKeyCreated};
use keyledger_engine::domain::webhook::{WebhookCommand, WebhookRegistered};
use keyledger_engine::ledger::{Command, Ledger, Request, Writer};
use keyledger_engine::log::LogId;
use keyledger_engine::log::memory::MemoryLog;
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApplicationId, KeyId, PortalSessionId, RootKeyId, WebhookId};
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::role::Role;
use keyledger_engine::value::text::{Description, Metadata};
use keyledger_engine::value::time::{Clock, SystemClock};
use keyledger_engine::value::token::{SecretKind, Token, TokenPrefix};
use keyledger_engine::vault::Vault;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::verification::VerificationObserver;

const ORGANIZATIONS: [&str; 3] = ["acme", "beta", "gamma"];

struct World {
    ledger: Ledger,
    _writer: Writer,
    index: Arc<VerificationIndex>,
    holdings: Arc<Holdings>,
    rng: StdRng,
    ids: u128,
}

impl World {
    fn new() -> Self {
        let log = Box::new(MemoryLog::new(LogId([0; 16]), Arc::new(Vault::in_memory().unwrap())));
        let index = Arc::new(VerificationIndex::new());
        let holdings = Arc::new(Holdings::default());
        let observers: Vec<Box<dyn keyledger_engine::ledger::Observer>> = vec![
            Box::new(VerificationObserver(Arc::clone(&index))),
            Box::new(HoldingsObserver(Arc::clone(&holdings))),
        ];
        let ids = StdRng::seed_from_u64(1);
        let (ledger, writer) = Ledger::start(log, observers, Arc::new(SystemClock), ids).unwrap();
        let world = Self { ledger, _writer: writer, index, holdings, rng: StdRng::seed_from_u64(2), ids: 0 };
        for id in ORGANIZATIONS {
            let create = OrganizationCommand::Create { name: None, kind: OrganizationKind::Paid };
            assert!(world.execute(Command::Organization(id.parse().unwrap(), create)));
        }
        world
    }

    /// Returns whether a rule allowed it.
    fn execute(&self, command: Command) -> bool {
        self.ledger.execute_blocking(Request::new(command, Actor::system())).is_ok()
    }

    fn id(&mut self) -> u128 {
        self.ids += 1;
        self.ids
    }

    fn secret(&mut self, kind: SecretKind) -> Token {
        Token::generate_secret(kind, &mut self.rng).unwrap()
    }

    /// A command that adds an object, and the one that removes it.
    fn object(&mut self, kind: Kind, of: OrganizationId) -> (Command, Command) {
        let id = self.id();
        let permissions = vec![Permission::KeysRead];
        let root = Token::generate_root(&mut self.rng).unwrap();
        match kind {
            Kind::Key => {
                let id = KeyId::from_u128(id);
                let environment = Environment::Production;
                let token = Token::generate(&TokenPrefix::default(), environment, &mut self.rng).unwrap();
                let key = CreateKey {
                    organization_id: of,
                    api_id: None,
                    owner: Owner::in_organization(false),
                    user_id: None,
                    name: None,
                    description: None,
                    metadata: Some(Metadata::new(&serde_json::json!({ "text": "x".repeat(1_000) })).unwrap()),
                    environment,
                    scopes: Vec::new(),
                    expires_at: None,
                    digest: token.digest(),
                    hint: token.hint(),
                };
                (Command::Key(id, KeyCommand::Create(Box::new(key))), Command::Key(id, KeyCommand::Delete))
            }
            Kind::RootKey => {
                let id = RootKeyId::from_u128(id);
                let facts = RootKeyCreated { digest: root.digest(), hint: root.hint(), permissions };
                let create = RootKeyCommand::Create { organization_id: Some(of), name: None, facts };
                (Command::RootKey(id, create), Command::RootKey(id, RootKeyCommand::Revoke))
            }
            Kind::Application => {
                let id = ApplicationId::from_u128(id);
                let secret = self.secret(SecretKind::ClientSecret);
                let facts = ApplicationCreated { digest: secret.digest(), hint: secret.hint(), permissions };
                let create = ApplicationCommand::Create { organization_id: Some(of), name: None, facts };
                (Command::Application(id, create), Command::Application(id, ApplicationCommand::Delete))
            }
            Kind::Webhook => {
                let id = WebhookId::from_u128(id);
                let url = "https://receiver.example/".parse().unwrap();
                let facts = WebhookRegistered { url, event_types: Vec::new() };
                let create = WebhookCommand::Register { organization_id: Some(of), facts };
                (Command::Webhook(id, create), Command::Webhook(id, WebhookCommand::Delete))
            }
            Kind::PortalSession => {
                let id = PortalSessionId::from_u128(id);
                let digest = self.secret(SecretKind::PortalLink).digest();
                let facts = PortalSessionCreated {
                    ends_by: None,
                    digest,
                    role: Role::Owner,
                    link_expires_at: SystemClock.now().saturating_add_millis(60_000),
                    lifetime_seconds: 3_600,
                };
                let create = PortalSessionCommand::Create { organization_id: of, user_id: None, facts };
                let reason = keyledger_engine::domain::portal_session::EndReason::SignedOut;
                let end = PortalSessionCommand::End { reason };
                (Command::PortalSession(id, create), Command::PortalSession(id, end))
            }
        }
    }
}

#[test]
fn counts_are_those_of_a_plain_list_and_survive_a_restart() {
    let mut world = World::new();
    let mut model: Model<(&str, Kind), u64> = Model::new();
    let mut living = Vec::new();
    for _ in 0..600 {
        let organization = ORGANIZATIONS[world.rng.random_range(0..ORGANIZATIONS.len())];
        let kind = Kind::ALL[world.rng.random_range(0..Kind::ALL.len())];
        let (create, remove) = world.object(kind, organization.parse().unwrap());
        // Removing what is not there is refused.
        assert!(world.rng.random_bool(0.5) || !world.execute(remove.clone()));
        assert!(world.execute(create));
        *model.entry((organization, kind)).or_default() += 1;
        living.push((organization, kind, remove));
        if world.rng.random_bool(0.4) {
            let (organization, kind, remove) = living.swap_remove(world.rng.random_range(0..living.len()));
            assert!(world.execute(remove));
            *model.entry((organization, kind)).or_default() -= 1;
        }
    }
    let now = SystemClock.now();
    let again = Holdings::of(&world.index, now);
    let reader = world.ledger.reader();
    again.count_day(reader.as_ref(), world.ledger.head(), now, || false).unwrap();
    for organization in ORGANIZATIONS {
        let id: OrganizationId = organization.parse().unwrap();
        for kind in Kind::ALL {
            let expected = model.get(&(organization, kind)).copied().unwrap_or_default();
            assert_eq!(world.holdings.count(&id, kind), expected, "{organization} {kind:?}");
            assert_eq!(again.count(&id, kind), expected, "{organization} {kind:?} after a restart");
        }
        let written = world.holdings.bytes_written(&id, now);
        assert!(written > 30_000, "{written}");
        assert_eq!(again.bytes_written(&id, now), written);
        let tomorrow = now.saturating_add_millis(MILLIS_PER_DAY);
        assert_eq!(world.holdings.bytes_written(&id, tomorrow), 0);
    }
}

#[test]
fn a_longer_text_weighs_more() {
    let mut world = World::new();
    let organization: OrganizationId = "acme".parse().unwrap();
    let (create, _) = world.object(Kind::Key, organization.clone());
    let Command::Key(id, _) = create else { panic!("a key") };
    assert!(world.execute(create));
    let now = SystemClock.now();
    let before = world.holdings.bytes_written(&organization, now);
    let description = Some(Some(Description::new(&"x".repeat(3_000)).unwrap()));
    let edit = EditKey { description, ..EditKey::default() };
    assert!(world.execute(Command::Key(id, KeyCommand::Edit(Box::new(edit)))));
    let grown = world.holdings.bytes_written(&organization, now) - before;
    assert!((3_000..4_000).contains(&grown), "{grown}");
}

#[test]
fn concurrent_reservations_never_exceed_the_bound_together() {
    const MAX: u64 = 100;
    let holdings = Holdings::default();
    let organization: OrganizationId = "acme".parse().unwrap();
    let added: u64 = thread::scope(|scope| {
        let adding = || {
            let holding = holdings.holding(&organization);
            let mut added = 0_u64;
            for _ in 0..2_000 {
                let Ok(reservation) =
                    holdings.reserve(&organization, Kind::Key, MAX, Timestamp::from_millis(0))
                else {
                    continue;
                };
                // As the observer does before the command is answered. Some commands are rejected.
                if !added.is_multiple_of(3) || added == 0 {
                    holding.add(Kind::Key, 1);
                }
                added += 1;
                assert!(holdings.count(&organization, Kind::Key) <= MAX);
                drop(reservation);
            }
            added
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(adding)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(holdings.count(&organization, Kind::Key), MAX, "{added}");
    assert_eq!(holdings.reserve(&organization, Kind::Key, MAX, Timestamp::from_millis(0)).err(), Some(MAX));
    holdings.holding(&organization).remove(Kind::Key);
    assert!(holdings.reserve(&organization, Kind::Key, MAX, Timestamp::from_millis(0)).is_ok());
}

#[test]
fn an_expired_session_makes_room_without_an_event() {
    let mut world = World::new();
    let organization: OrganizationId = "acme".parse().unwrap();
    let (create, _) = world.object(Kind::PortalSession, organization.clone());
    assert!(world.execute(create));
    let reserve = |now| world.holdings.reserve(&organization, Kind::PortalSession, 1, now).is_ok();
    let now = SystemClock.now();
    assert!(!reserve(now));
    assert!(reserve(now.saturating_add_millis(61_000)));
}
