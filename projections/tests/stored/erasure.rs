//! After an erasure, the index in memory equals a replay of the log.

use std::sync::Arc;

use keyledger_engine::domain::application::{ApplicationCommand, ApplicationCreated};
use keyledger_engine::domain::erasure::ErasureCommand;
use keyledger_engine::domain::key::{CreateKey, EditKey, KeyCommand, Owner};
use keyledger_engine::domain::organization::{OrganizationCommand, OrganizationKind};
use keyledger_engine::domain::policy::Policy;
use keyledger_engine::domain::portal_session::{PortalSessionCommand, PortalSessionCreated};
use keyledger_engine::domain::portfolio::ClientLinkCommand;
use keyledger_engine::domain::root_key::{RootKeyCommand, RootKeyCreated};
use keyledger_engine::ledger::{Command, Ledger, Request, UserOf};
use keyledger_engine::log::memory::MemoryLog;
use keyledger_engine::log::{EventLog, LogId, LogReader};
use keyledger_engine::value::actor::{Actor, ActorKind};
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{
    ApplicationId, ClientLinkId, ErasureId, KeyId, OrganizationId, PortalSessionId, RootKeyId,
};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::role::Role;
use keyledger_engine::value::text::{Name, UserId};
use keyledger_engine::value::time::{Clock, SystemClock};
use keyledger_engine::value::token::{Digest, TokenHint};
use keyledger_engine::vault::Vault;
use keyledger_projections::verification::{VerificationIndex, VerificationObserver};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

struct Run {
    ledger: Ledger,
    reader: Arc<dyn LogReader>,
    index: Arc<VerificationIndex>,
    rng: StdRng,
}

impl Run {
    fn start() -> Self {
        let log = MemoryLog::new(LogId([1; 16]), Arc::new(Vault::in_memory().unwrap()));
        let (reader, index) = (log.reader(), Arc::new(VerificationIndex::new()));
        let observers: Vec<Box<dyn keyledger_engine::ledger::Observer>> =
            vec![Box::new(VerificationObserver(Arc::clone(&index)))];
        let ids = StdRng::seed_from_u64(1);
        let (ledger, _) = Ledger::start(Box::new(log), observers, Arc::new(SystemClock), ids).unwrap();
        Self { ledger, reader, index, rng: StdRng::seed_from_u64(2) }
    }

    fn execute(&self, command: Command) {
        let actor = Actor {
            kind: ActorKind::RootKey,
            id: "rk_1".into(),
            ip: Some([192, 0, 2, 7].into()),
            user_agent: None,
        };
        self.ledger.execute_blocking(Request::new(command, actor)).unwrap();
    }

    fn digest(&mut self) -> Digest {
        Digest::from_bytes(self.rng.random())
    }

    /// Creates an organization with every kind of aggregate that holds personal text.
    fn fill(&mut self, organization: &str, kind: OrganizationKind) -> Vec<KeyId> {
        let organization_id: OrganizationId = organization.parse().unwrap();
        let name = || Some(Name::new(&format!("{organization}'s")).unwrap());
        let create = OrganizationCommand::Create { name: name(), kind };
        self.execute(Command::Organization(organization_id.clone(), create));
        let policy = Policy { max_keys_per_user: Some(9), ..Policy::default() };
        let policy = OrganizationCommand::SetPolicy(Environment::Production, policy);
        self.execute(Command::Organization(organization_id.clone(), policy));
        let hint = TokenHint { start: "klroot_ab12".into(), last_four: "Zz09".into() };
        let facts = RootKeyCreated { digest: self.digest(), hint: hint.clone(), permissions: Vec::new() };
        let create =
            RootKeyCommand::Create { organization_id: Some(organization_id.clone()), name: name(), facts };
        let id = RootKeyId::from_u128(self.rng.random());
        self.execute(Command::RootKey(id, create));
        let facts = ApplicationCreated { digest: self.digest(), hint: hint.clone(), permissions: Vec::new() };
        let create = ApplicationCommand::Create {
            organization_id: Some(organization_id.clone()),
            name: name(),
            facts,
        };
        let id = ApplicationId::from_u128(self.rng.random());
        self.execute(Command::Application(id, create));
        let mut keys = Vec::new();
        for user in [None, Some("ada"), Some("bob")] {
            let user_id = user.map(|user| UserId::new(user).unwrap());
            let facts = PortalSessionCreated {
                digest: self.digest(),
                role: Role::Admin,
                link_expires_at: SystemClock.now().saturating_add_millis(600_000),
                lifetime_seconds: 600,
                ends_by: None,
            };
            let create = PortalSessionCommand::Create {
                organization_id: organization_id.clone(),
                user_id: user_id.clone(),
                facts,
            };
            let id = PortalSessionId::from_u128(self.rng.random());
            self.execute(Command::PortalSession(id, create));
            for _ in 0..3 {
                keys.push(self.create_key(
                    &organization_id,
                    Owner::in_organization(user.is_some()),
                    &user_id,
                ));
            }
        }
        keys
    }

    fn create_key(&mut self, organization_id: &OrganizationId, owner: Owner, user: &Option<UserId>) -> KeyId {
        let id = KeyId::from_u128(self.rng.random());
        let create = CreateKey {
            organization_id: organization_id.clone(),
            api_id: None,
            owner,
            user_id: user.clone(),
            name: Some(Name::new(&format!("key {id}")).unwrap()),
            description: None,
            metadata: None,
            environment: Environment::Production,
            scopes: Vec::new(),
            expires_at: None,
            digest: self.digest(),
            hint: TokenHint { start: "kl_live_ab12".into(), last_four: "Zz09".into() },
        };
        self.execute(Command::Key(id, KeyCommand::Create(Box::new(create))));
        id
    }

    fn rotate(&mut self, id: KeyId) {
        let hint = TokenHint { start: "kl_live_cd34".into(), last_four: "Yy08".into() };
        let digest = self.digest();
        self.execute(Command::Key(id, KeyCommand::Rotate { digest, hint, overlap_millis: 600_000 }));
    }

    fn rename(&mut self, id: KeyId) {
        let name = Some(Some(Name::new("renamed").unwrap()));
        let edit = EditKey { name, ..EditKey::default() };
        self.execute(Command::Key(id, KeyCommand::Edit(Box::new(edit))));
    }

    fn erase(&mut self, organization: &str, user: Option<&str>) {
        let id = ErasureId::from_u128(self.rng.random());
        let organization_id = organization.parse().unwrap();
        let user_id = user.map(|user| UserId::new(user).unwrap());
        self.execute(Command::Erasure(id, ErasureCommand::Erase { organization_id, user_id }));
        self.check();
    }

    /// The index equals a replay of the log as it can be read now.
    fn check(&self) {
        let replayed = VerificationIndex::new();
        for record in self.reader.read(Position::START, usize::MAX).unwrap() {
            replayed.apply(&record).unwrap();
        }
        assert_eq!(self.index.first_difference(&replayed), None);
        for user in ["ada", "bob"] {
            for organization in ["acme", "other", "partner"] {
                let user = UserOf {
                    organization_id: organization.parse().unwrap(),
                    environment: Environment::Production,
                    user_id: UserId::new(user).unwrap(),
                };
                let now = SystemClock.now();
                assert_eq!(self.index.keys_of_user(&user, now), replayed.keys_of_user(&user, now));
            }
        }
    }

    fn sessions(&self) -> usize {
        self.index.portal_sessions(None, usize::MAX).len()
    }
}

#[test]
fn the_index_forgets_what_a_replay_no_longer_finds() {
    let mut run = Run::start();
    let keys = run.fill("acme", OrganizationKind::Paid);
    let others = run.fill("other", OrganizationKind::Paid);
    run.fill("partner", OrganizationKind::Partner);
    let (partner_id, client_id): (OrganizationId, OrganizationId) =
        ("partner".parse().unwrap(), "other".parse().unwrap());
    let link = ClientLinkId { partner_id: partner_id.clone(), client_id: client_id.clone() };
    run.execute(Command::ClientLink(link, ClientLinkCommand::Link));
    run.create_key(&partner_id, Owner::client(client_id), &None);
    run.rotate(keys[3]);
    run.rotate(others[3]);
    run.check();
    let sessions = run.sessions();

    run.erase("acme", Some("ada"));
    assert_eq!(run.sessions(), sessions - 1);
    run.erase("acme", Some("nobody"));
    // Text written later to an erased user's key belongs to the organization.
    run.rename(keys[4]);
    run.rename(keys[7]);
    run.check();
    run.erase("acme", Some("ada"));
    // A user who returns is a new subject.
    let acme: OrganizationId = "acme".parse().unwrap();
    let ada = Some(UserId::new("ada").unwrap());
    run.create_key(&acme, Owner::in_organization(true), &ada);
    run.check();
    run.erase("partner", None);
    assert_eq!(run.sessions(), sessions - 4);
    run.erase("acme", None);
    run.erase("acme", None);
    assert_eq!(run.sessions(), sessions - 6);
    assert_eq!(run.index.organization(&acme).unwrap().name, None);
    // The third organization is unchanged.
    assert!(run.index.organization(&"other".parse().unwrap()).unwrap().name.is_some());
}
