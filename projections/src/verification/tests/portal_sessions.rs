//! Portal sessions that mint one another, in random histories, against a plain list: a session is valid while
//! it and all credentials that it descends from are.

use keyledger_engine::domain::application::{ApplicationCommand, ApplicationCreated};
use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::portal_session::{
    self, EndReason, PortalSession, PortalSessionCommand, PortalSessionCreated, PortalSessionStatus,
};
use keyledger_engine::domain::record::{Personal, Record};
use keyledger_engine::domain::root_key::{RootKeyCommand, RootKeyCreated};
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::domain::{application, root_key};
use keyledger_engine::ledger::Aggregate;
use keyledger_engine::log::SourceId;
use keyledger_engine::value::actor::{Actor, ActorKind};
use keyledger_engine::value::id::{ApplicationId, OrganizationId, PortalSessionId, RootKeyId};
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::role::Role;
use keyledger_engine::value::text::UserId;
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{SecretKind, Token};
use keyledger_engine::vault::Subject;
use proptest::prelude::*;

use super::{History, VerificationIndex, key};

const SESSIONS: usize = 12;
const OTHERS: usize = 2;

/// Who mints a session.
#[derive(Debug, Clone, Copy)]
enum By {
    RootKey(usize),
    Application(usize),
    Session(usize),
    OpenIdUser,
}

#[derive(Debug, Clone)]
enum Step {
    CreateRootKey(usize),
    RevokeRootKey(usize),
    CreateApplication(usize),
    DeleteApplication(usize),
    Mint {
        session: usize,
        by: By,
        user: bool,
        link: i64,
        lifetime: u32,
        ends_by: Option<i64>,
    },
    Start(usize),
    End(usize),
    /// Erases the user whose sessions have one.
    EraseUser,
    Wait(i64),
    Restart,
}

fn by() -> impl Strategy<Value = By> {
    prop_oneof![
        2 => (0..OTHERS).prop_map(By::RootKey),
        2 => (0..OTHERS).prop_map(By::Application),
        8 => (0..SESSIONS).prop_map(By::Session),
        1 => Just(By::OpenIdUser),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let mint = (0..SESSIONS, by(), any::<bool>(), 1_i64..20_000, 1_u32..20, prop::option::of(0_i64..20_000));
    prop_oneof![
        2 => (0..OTHERS).prop_map(Step::CreateRootKey),
        1 => (0..OTHERS).prop_map(Step::RevokeRootKey),
        2 => (0..OTHERS).prop_map(Step::CreateApplication),
        1 => (0..OTHERS).prop_map(Step::DeleteApplication),
        12 => mint.prop_map(|(session, by, user, link, lifetime, ends_by)| {
            Step::Mint { session, by, user, link, lifetime, ends_by }
        }),
        10 => (0..SESSIONS).prop_map(Step::Start),
        2 => (0..SESSIONS).prop_map(Step::End),
        1 => Just(Step::EraseUser),
        3 => (0_i64..1_000).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

fn session_id(number: usize) -> PortalSessionId {
    PortalSessionId::from_u128(number as u128 + 1)
}

fn acme() -> OrganizationId {
    "acme".parse().unwrap()
}

fn ada() -> UserId {
    UserId::new("ada").unwrap()
}

/// A history in progress, and the plain list of what is in it.
struct Run {
    history: History,
    index: VerificationIndex,
    records: Vec<Record>,
    root_keys: [Option<root_key::RootKey>; OTHERS],
    applications: [Option<application::Application>; OTHERS],
    sessions: [Option<Minted>; SESSIONS],
}

/// A session with its secrets, and who minted it.
struct Minted {
    session: PortalSession,
    by: By,
    secrets: [Token; 2],
}

impl Run {
    fn new() -> Self {
        let (mut history, index) = (History::new(), VerificationIndex::new());
        let created = history.organization(&acme());
        index.apply(&created).unwrap();
        Self {
            history,
            index,
            records: vec![created],
            root_keys: Default::default(),
            applications: Default::default(),
            sessions: Default::default(),
        }
    }

    fn append(&mut self, stream: StreamId, actor: Actor, event: Event) -> Record {
        let record = self.history.record(stream, Some(acme()), event);
        let record = Record { actor, ..record };
        self.index.apply(&record).unwrap();
        self.records.push(record.clone());
        record
    }

    fn actor(by: By) -> Actor {
        let (kind, id) = match by {
            By::RootKey(number) => (ActorKind::RootKey, RootKeyId::from_u128(number as u128 + 1).to_string()),
            By::Application(number) => {
                (ActorKind::Application, ApplicationId::from_u128(number as u128 + 1).to_string())
            }
            By::Session(number) => (ActorKind::PortalSession, session_id(number).to_string()),
            By::OpenIdUser => (ActorKind::User, "olga".into()),
        };
        Actor { kind, id: id.into(), ..Actor::system() }
    }

    /// Whether a credential is valid at `now`: it, and everything that it descends from.
    fn is_valid(&self, by: By, now: Timestamp) -> bool {
        match by {
            By::RootKey(number) => self.root_keys[number].as_ref().is_some_and(|it| it.revoked_at.is_none()),
            By::Application(number) => {
                self.applications[number].as_ref().is_some_and(|it| it.deleted_at.is_none())
            }
            By::Session(number) => self.status(number, now) == Some(PortalSessionStatus::Active),
            By::OpenIdUser => true,
        }
    }

    /// The status of a session whose minter is valid; none for others.
    fn status(&self, number: usize, now: Timestamp) -> Option<PortalSessionStatus> {
        let minted = self.sessions[number].as_ref()?;
        self.is_valid(minted.by, now).then(|| minted.session.status(now))
    }

    fn root_key(&mut self, number: usize, command: &RootKeyCommand) {
        let events = root_key::decide(self.root_keys[number].as_ref(), command, self.history.now);
        for event in events.unwrap_or_default() {
            let stream = StreamId::RootKey(RootKeyId::from_u128(number as u128 + 1));
            let record = self.append(stream, Actor::system(), event);
            let before = self.root_keys[number].take();
            self.root_keys[number] = root_key::RootKey::apply(before, &record);
        }
    }

    fn application(&mut self, number: usize, command: &ApplicationCommand) {
        let events = application::decide(self.applications[number].as_ref(), command, self.history.now);
        for event in events.unwrap_or_default() {
            let stream = StreamId::Application(ApplicationId::from_u128(number as u128 + 1));
            let record = self.append(stream, Actor::system(), event);
            let before = self.applications[number].take();
            self.applications[number] = application::Application::apply(before, &record);
        }
    }

    fn session(
        &mut self,
        number: usize,
        actor: Actor,
        command: &PortalSessionCommand,
    ) -> Option<PortalSession> {
        let before = self.sessions[number].as_ref().map(|minted| minted.session.clone());
        let organization = self.index.organization(&acme());
        let events =
            portal_session::decide(before.as_ref(), organization.as_deref(), command, self.history.now);
        let event = events.ok()?.pop()?;
        let record = self.append(StreamId::PortalSession(session_id(number)), actor, event);
        PortalSession::apply(before, &record)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::CreateRootKey(number) => {
                let token = Token::generate_root(&mut self.history.rng).unwrap();
                let facts = RootKeyCreated {
                    digest: token.digest(),
                    hint: token.hint(),
                    permissions: vec![Permission::Admin],
                };
                self.root_key(number, &RootKeyCommand::Create { organization_id: None, name: None, facts });
            }
            Step::RevokeRootKey(number) => self.root_key(number, &RootKeyCommand::Revoke),
            Step::CreateApplication(number) => {
                let secret = self.secret(SecretKind::ClientSecret);
                let facts = ApplicationCreated {
                    digest: secret.digest(),
                    hint: secret.hint(),
                    permissions: vec![Permission::Admin],
                };
                let create = ApplicationCommand::Create { organization_id: None, name: None, facts };
                self.application(number, &create);
            }
            Step::DeleteApplication(number) => self.application(number, &ApplicationCommand::Delete),
            Step::Mint { session, by, user, link, lifetime, ends_by } => {
                // Nobody acts with a credential that has ended, except for a request that was admitted just
                // before. Any other would not have been admitted.
                if self.sessions[session].is_none() && Self::existed(self, by) {
                    self.mint(session, by, user, link, lifetime, ends_by);
                }
            }
            Step::Start(number) => {
                let secret = self.sessions[number].as_ref().map(|minted| minted.secrets[1].digest());
                let start = secret.map(|digest| PortalSessionCommand::Start { digest });
                let after = start.and_then(|start| self.session(number, Actor::system(), &start));
                self.replace(number, after);
            }
            Step::End(number) => {
                let end = PortalSessionCommand::End { reason: EndReason::Revoked };
                let after = self.session(number, Actor::system(), &end);
                self.replace(number, after);
            }
            Step::EraseUser => {
                self.index.erase(&Subject::User(acme(), ada()));
                for record in &mut self.records {
                    if let Event::PortalSessionCreated(_, personal) = &mut record.event
                        && personal.user_id.take().is_some()
                    {
                        record.personal = Personal::Erased;
                    }
                }
                let of_user = self.sessions.iter_mut().flatten();
                for minted in of_user.filter(|minted| minted.session.user_id.is_some()) {
                    minted.session.is_erased = true;
                }
            }
            Step::Wait(millis) => self.history.now = self.history.now.saturating_add_millis(millis),
            Step::Restart => {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("snapshot");
                self.index.save_snapshot(&path, SourceId([1; 16]), [2; 32], &key()).unwrap();
                self.index = VerificationIndex::load_snapshot(&path, Some(&key())).unwrap().index;
            }
        }
    }

    fn existed(&self, by: By) -> bool {
        match by {
            By::RootKey(number) => self.root_keys[number].is_some(),
            By::Application(number) => self.applications[number].is_some(),
            By::Session(number) => {
                self.sessions[number].as_ref().is_some_and(|minted| minted.session.started_at.is_some())
            }
            By::OpenIdUser => true,
        }
    }

    fn mint(&mut self, number: usize, by: By, user: bool, link: i64, lifetime: u32, ends_by: Option<i64>) {
        let secrets = [self.secret(SecretKind::PortalLink), self.secret(SecretKind::PortalSession)];
        let facts = PortalSessionCreated {
            digest: secrets[0].digest(),
            role: Role::Owner,
            link_expires_at: self.history.now.saturating_add_millis(link),
            lifetime_seconds: lifetime,
            ends_by: ends_by.map(|millis| self.history.now.saturating_add_millis(millis)),
        };
        let user_id = user.then(ada);
        let create = PortalSessionCommand::Create { organization_id: acme(), user_id, facts };
        if let Some(session) = self.session(number, Self::actor(by), &create) {
            self.sessions[number] = Some(Minted { session, by, secrets });
        }
    }

    fn replace(&mut self, number: usize, after: Option<PortalSession>) {
        if let (Some(minted), Some(after)) = (&mut self.sessions[number], after) {
            minted.session = after;
        }
    }

    fn secret(&mut self, kind: SecretKind) -> Token {
        Token::generate_secret(kind, &mut self.history.rng).unwrap()
    }

    fn check(&self) {
        for later in [0, 1, 2_000, 20_000] {
            let now = self.history.now.saturating_add_millis(later);
            for (number, minted) in self.sessions.iter().enumerate() {
                let Some(Minted { secrets: [link, secret], .. }) = minted else { continue };
                let status = self.status(number, now);
                let found = |session: Option<std::sync::Arc<PortalSession>>| session.map(|it| it.id);
                let expected = |wanted| (status == Some(wanted)).then(|| session_id(number));
                assert_eq!(
                    found(self.index.portal_link(link.expose(), now)),
                    expected(PortalSessionStatus::Pending),
                    "the link of {number} after {later}"
                );
                assert_eq!(
                    found(self.index.authenticate_portal_session(secret.expose(), now)),
                    expected(PortalSessionStatus::Active),
                    "the session {number} after {later}"
                );
            }
        }
    }

    /// The index equals one that is rebuilt from the log.
    fn check_replay(&self) {
        let replayed = VerificationIndex::new();
        replayed.apply_all(&self.records).unwrap();
        assert_eq!(self.index.first_difference(&replayed), None);
    }
}

/// An event that a rule let happen after the minter had ended, as the log of an older version may have it, is
/// no reason to stop.
#[test]
fn the_log_alone_never_revives_what_a_session_minted() {
    let mut run = Run::new();
    run.step(&Step::CreateRootKey(0));
    let mint = |session, by| Step::Mint { session, by, user: false, link: 9_000, lifetime: 9, ends_by: None };
    run.step(&mint(0, By::RootKey(0)));
    run.step(&Step::Start(0));
    run.step(&mint(1, By::Session(0)));
    run.step(&Step::Start(1));
    run.step(&mint(2, By::Session(1)));
    run.check();
    let now = run.history.now;
    assert!(run.index.is_minted_below(&run.index.portal_session(session_id(2)).unwrap(), session_id(0)));
    assert!(!run.index.is_minted_below(&run.index.portal_session(session_id(0)).unwrap(), session_id(2)));
    run.step(&Step::End(0));
    assert!(!run.is_valid(By::Session(1), now));
    // Started, ended and minted by requests that were admitted before.
    run.step(&Step::Start(2));
    run.step(&mint(3, By::Session(1)));
    run.check();
    assert!(run.index.portal_sessions(None, usize::MAX).is_empty());
    run.check_replay();
    let Some(Aggregate::PortalSession(session)) = Aggregate::fold(
        &run.records
            .iter()
            .filter(|it| it.stream == StreamId::PortalSession(session_id(2)))
            .cloned()
            .collect::<Vec<_>>(),
    )
    .unwrap() else {
        panic!("the log has the session")
    };
    assert_eq!(session.status(now), PortalSessionStatus::Active, "the log alone does not say that it ended");
}

proptest! {
    #[test]
    fn a_session_ends_with_its_minter(steps in proptest::collection::vec(step(), 1..120)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
            run.check();
        }
        run.check_replay();
    }
}
