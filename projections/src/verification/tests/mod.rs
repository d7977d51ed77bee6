//! Hand-made records, and tests that need no model.

mod comparison;
mod concurrency;
mod model;
mod portal_sessions;
mod random_histories;
mod snapshots;
mod steps;

use std::collections::HashMap;
use std::sync::Arc;

use keyledger_engine::crypto::mac::MacKey;
use keyledger_engine::domain::application::{ApplicationCreated, ApplicationPersonal};
use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::{
    KeyCreated, KeyCreatedPersonal, KeyRevoked, KeyRevokedPersonal, Owner, RevocationReason,
};
use keyledger_engine::domain::organization::{OrganizationCreated, OrganizationKind, OrganizationPersonal};
use keyledger_engine::domain::record::{Personal, Record};
use keyledger_engine::domain::root_key::{RootKeyCreated, RootKeyCreatedPersonal};
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::ledger::Observer;
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApplicationId, EventId, KeyId, OrganizationId, RootKeyId};
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::position::{Position, Version};
use keyledger_engine::value::text::Name;
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{SecretKind, Token, TokenPrefix};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{Code, ComparisonError, Question, VerificationIndex, VerificationObserver};

/// The key that vouches for snapshots.
fn key() -> MacKey {
    MacKey::derive(&[3; 32], super::MAC_PURPOSE)
}

/// Makes records as a log would.
struct History {
    position: Position,
    now: Timestamp,
    versions: HashMap<StreamId, Version>,
    rng: StdRng,
}

impl History {
    fn new() -> Self {
        Self {
            position: Position::START,
            now: Timestamp::from_millis(1_800_000_000_000),
            versions: HashMap::new(),
            rng: StdRng::seed_from_u64(7),
        }
    }

    fn record(&mut self, stream: StreamId, organization_id: Option<OrganizationId>, event: Event) -> Record {
        self.position = self.position.next();
        let version = self.versions.entry(stream.clone()).or_default();
        *version = version.next();
        Record {
            position: self.position,
            id: EventId::generate(self.now, &mut self.rng).unwrap(),
            time: self.now,
            stream,
            version: *version,
            organization_id,
            actor: Actor::system(),
            request_id: None,
            causation: None,
            event,
            personal: Personal::Readable,
        }
    }

    fn token(&mut self, environment: Environment) -> Token {
        Token::generate(&TokenPrefix::default(), environment, &mut self.rng).unwrap()
    }

    fn organization(&mut self, id: &OrganizationId) -> Record {
        let event = Event::OrganizationCreated(
            OrganizationCreated { kind: OrganizationKind::Paid },
            OrganizationPersonal { name: None },
        );
        self.record(StreamId::Organization(id.clone()), Some(id.clone()), event)
    }

    /// A key with only a name, and its token.
    fn key(&mut self, id: KeyId, organization_id: &OrganizationId) -> (Record, Token) {
        let token = self.token(Environment::Production);
        let facts = KeyCreated {
            digest: token.digest(),
            hint: token.hint(),
            environment: Environment::Production,
            owner: Owner::in_organization(false),
            api_id: None,
            scopes: Vec::new(),
            expires_at: None,
        };
        let personal = KeyCreatedPersonal {
            user_id: None,
            name: Some(Name::new("Integration").unwrap()),
            description: None,
            metadata: None,
        };
        let event = Event::KeyCreated(facts, personal);
        (self.record(StreamId::Key(id), Some(organization_id.clone()), event), token)
    }

    fn root_key(&mut self, id: RootKeyId) -> (Record, Token) {
        let token = Token::generate_root(&mut self.rng).unwrap();
        let facts = RootKeyCreated {
            digest: token.digest(),
            hint: token.hint(),
            permissions: vec![Permission::Admin],
        };
        let event = Event::RootKeyCreated(facts, RootKeyCreatedPersonal { name: None });
        (self.record(StreamId::RootKey(id), None, event), token)
    }

    fn application(&mut self, id: ApplicationId, organization_id: Option<OrganizationId>) -> Record {
        let secret = Token::generate_secret(SecretKind::ClientSecret, &mut self.rng).unwrap();
        let facts = ApplicationCreated {
            digest: secret.digest(),
            hint: secret.hint(),
            permissions: vec![Permission::KeysVerify],
        };
        let event = Event::ApplicationCreated(facts, ApplicationPersonal { name: None });
        self.record(StreamId::Application(id), organization_id, event)
    }
}

fn revoked() -> Event {
    Event::KeyRevoked(KeyRevoked { reason: RevocationReason::Unspecified }, KeyRevokedPersonal { note: None })
}

fn code(index: &VerificationIndex, token: &str, now: Timestamp) -> Code {
    index.verify(token, &Question::default(), now, |verdict| verdict.code)
}

#[test]
fn a_record_that_does_not_follow_changes_nothing() {
    let mut history = History::new();
    let index = VerificationIndex::new();
    let acme: OrganizationId = "acme".parse().unwrap();
    let key_id = KeyId::from_u128(1);
    index.apply(&history.organization(&acme)).unwrap();
    let (created, token) = history.key(key_id, &acme);

    let mut gap = created.clone();
    gap.position = Position::new(5);
    assert_eq!(index.apply(&gap).unwrap_err().position, Position::new(5));
    let mut stranger = created.clone();
    stranger.organization_id = Some("nobody".parse().unwrap());
    assert!(index.apply(&stranger).is_err());
    assert_eq!(index.position(), Position::new(1));
    assert_eq!(code(&index, token.expose(), history.now), Code::NotFound);

    let mut positions = index.watch();
    index.apply(&created).unwrap();
    index.apply(&created).unwrap();
    assert_eq!(*positions.borrow_and_update(), Position::new(2));
    assert_eq!(code(&index, token.expose(), history.now), Code::Valid);
    assert_eq!(index.key_counts().active, 1);

    // The token already belongs to another key.
    let (mut second, _) = history.key(KeyId::from_u128(2), &acme);
    second.event = created.event.clone();
    let error = index.apply(&second).unwrap_err();
    assert!(error.reason.contains(&key_id.to_string()), "{error}");
    assert!(!format!("{error:?}").contains(token.expose()));
}

#[test]
fn a_poisoned_index_accepts_no_token() {
    let mut history = History::new();
    let index = Arc::new(VerificationIndex::new());
    let mut observer = VerificationObserver(Arc::clone(&index));
    let acme: OrganizationId = "acme".parse().unwrap();
    let key_id = KeyId::from_u128(1);
    let organization = history.organization(&acme);
    let (created, token) = history.key(key_id, &acme);
    let (root_created, root_token) = history.root_key(RootKeyId::from_u128(1));
    observer.committed(&[organization, created, root_created]);
    assert_eq!(index.poisoned(), None);
    assert_eq!(code(&index, token.expose(), history.now), Code::Valid);
    assert!(index.authenticate_root_key(root_token.expose()).is_some());

    let stray = history.record(StreamId::Key(KeyId::from_u128(9)), Some(acme.clone()), revoked());
    let next = history.record(StreamId::Key(key_id), Some(acme), revoked());
    observer.committed(&[stray, next]);
    let reason = index.poisoned().unwrap();
    assert!(reason.contains("position 4"), "{reason}");
    assert_eq!(index.position(), Position::new(3));
    assert_eq!(code(&index, token.expose(), history.now), Code::NotFound);
    assert_eq!(code(&index, "kl_live_x", history.now), Code::Malformed);
    assert!(index.authenticate_root_key(root_token.expose()).is_none());
}

#[test]
fn an_application_stops_with_its_deletion_or_its_organization() {
    let mut history = History::new();
    let index = VerificationIndex::new();
    let acme: OrganizationId = "acme".parse().unwrap();
    let (free, bound) = (ApplicationId::from_u128(1), ApplicationId::from_u128(2));
    index.apply(&history.organization(&acme)).unwrap();
    index.apply(&history.application(free, None)).unwrap();
    index.apply(&history.application(bound, Some(acme.clone()))).unwrap();
    assert!(index.active_application(free).is_some() && index.active_application(bound).is_some());

    let epoch = index.authentication_epoch();
    let deleted = Event::OrganizationDeleted((), ());
    index.apply(&history.record(StreamId::Organization(acme.clone()), Some(acme), deleted)).unwrap();
    assert_ne!(index.authentication_epoch(), epoch);
    assert!(index.active_application(free).is_some() && index.active_application(bound).is_none());

    let epoch = index.authentication_epoch();
    let deleted = Event::ApplicationDeleted((), ());
    index.apply(&history.record(StreamId::Application(free), None, deleted)).unwrap();
    assert_ne!(index.authentication_epoch(), epoch);
    assert!(index.active_application(free).is_none());
    assert!(index.application(free).is_some(), "it is still known");
}

#[test]
fn codes_are_spelled_as_documented() {
    let spelled: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(
        spelled.join(" "),
        "VALID MALFORMED NOT_FOUND ORGANIZATION_INACTIVE REVOKED EXPIRED WRONG_ENVIRONMENT \
         WRONG_ORGANIZATION WRONG_API INSUFFICIENT_SCOPE"
    );
}
