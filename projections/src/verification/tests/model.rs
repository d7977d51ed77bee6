//! A model of the index that keeps the engine's aggregates in lists and searches all of them for every
//! answer.

use std::collections::{BTreeSet, HashMap};

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::{
    self, CreateKey, EditKey, Key, KeyCommand, KeyState, Owner, OwnerKind, RevocationReason,
};
use keyledger_engine::domain::organization::{self, Organization, OrganizationCommand, OrganizationKind};
use keyledger_engine::domain::policy::Policy;
use keyledger_engine::domain::portfolio::{self, ClientLink, ClientLinkCommand, ClientLinkState};
use keyledger_engine::domain::record::Record;
use keyledger_engine::domain::resource_api::{self, Api, ApiCommand, ApiRegistered};
use keyledger_engine::domain::root_key::{self, RootKey, RootKeyCommand, RootKeyCreated};
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::ledger::UserOf;
use keyledger_engine::log::SourceId;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApiId, ClientLinkId, EventId, KeyId, OrganizationId, RootKeyId};
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::text::{Audience, Metadata, Name, Scope, UserId};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{Digest, Token, TokenPrefix};
use proptest::prelude::*;

use super::super::KeyCounts;
use super::{Code, History, Question, VerificationIndex};

const ORGANIZATIONS: usize = 3;
const APIS: usize = 2;
const KEYS: usize = 5;
const ROOT_KEYS: usize = 3;
const SCOPES: [&str; 3] = ["read:users", "write:users", "admin"];

/// What is tried next; the rules may refuse it.
#[derive(Debug, Clone)]
enum Step {
    CreateOrganization(usize),
    DeleteOrganization(usize),
    SetPolicy(usize, Option<u32>),
    Link(usize, usize),
    Unlink(usize, usize),
    RegisterApi(usize),
    DeleteApi(usize),
    CreateRootKey(usize, Option<usize>),
    RevokeRootKey(usize),
    CreateKey {
        key: usize,
        organization: usize,
        /// For a partner, or for one of its clients.
        portfolio: Option<Option<usize>>,
        api: Option<usize>,
        preview: bool,
        scopes: u8,
        lives: Option<i64>,
    },
    EditKey {
        key: usize,
        name: Option<bool>,
        metadata: Option<bool>,
        scopes: Option<u8>,
        lives: Option<Option<i64>>,
    },
    Revoke(usize),
    Reactivate(usize),
    Rotate(usize, i64),
    RecordExpiry(usize),
    DeleteKey(usize),
    Wait(i64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let millis = || 1_i64..40;
    prop_oneof![
        3 => (0..ORGANIZATIONS).prop_map(Step::CreateOrganization),
        1 => (0..ORGANIZATIONS).prop_map(Step::DeleteOrganization),
        2 => (0..ORGANIZATIONS, any::<Option<u32>>()).prop_map(|(one, max)| Step::SetPolicy(one, max)),
        5 => (0..ORGANIZATIONS, 0..ORGANIZATIONS).prop_map(|(one, two)| Step::Link(one, two)),
        3 => (0..ORGANIZATIONS, 0..ORGANIZATIONS).prop_map(|(one, two)| Step::Unlink(one, two)),
        2 => (0..APIS).prop_map(Step::RegisterApi),
        1 => (0..APIS).prop_map(Step::DeleteApi),
        2 => (0..ROOT_KEYS, proptest::option::of(0..ORGANIZATIONS))
            .prop_map(|(key, organization)| Step::CreateRootKey(key, organization)),
        1 => (0..ROOT_KEYS).prop_map(Step::RevokeRootKey),
        8 => (
            0..KEYS, 0..ORGANIZATIONS, proptest::option::of(proptest::option::of(0..ORGANIZATIONS)),
            proptest::option::of(0..APIS), any::<bool>(), 0_u8..8, proptest::option::of(millis()),
        )
            .prop_map(|(key, organization, portfolio, api, preview, scopes, lives)| {
                Step::CreateKey { key, organization, portfolio, api, preview, scopes, lives }
            }),
        4 => (
            0..KEYS, any::<Option<bool>>(), any::<Option<bool>>(), proptest::option::of(0_u8..8),
            proptest::option::of(proptest::option::of(millis())),
        )
            .prop_map(|(key, name, metadata, scopes, lives)| {
                Step::EditKey { key, name, metadata, scopes, lives }
            }),
        3 => (0..KEYS).prop_map(Step::Revoke),
        3 => (0..KEYS).prop_map(Step::Reactivate),
        5 => (0..KEYS, 0_i64..30).prop_map(|(key, overlap)| Step::Rotate(key, overlap)),
        3 => (0..KEYS).prop_map(Step::RecordExpiry),
        1 => (0..KEYS).prop_map(Step::DeleteKey),
        4 => (0_i64..15).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

fn organization_id(number: usize) -> OrganizationId {
    format!("org-{number}").parse().unwrap()
}

fn api_id(number: usize) -> ApiId {
    ApiId::from_u128(number as u128 + 1)
}

fn scopes(mask: u8) -> Vec<Scope> {
    let set = SCOPES.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1);
    set.map(|(_, scope)| Scope::new(scope).unwrap()).collect()
}

/// The engine's aggregates, and every token ever issued.
#[derive(Default)]
struct Model {
    organizations: Vec<Organization>,
    organization_deletions: HashMap<OrganizationId, (Position, EventId)>,
    links: Vec<ClientLink>,
    unlinkings: Vec<(ClientLinkId, Position, EventId)>,
    apis: Vec<Api>,
    root_keys: Vec<RootKey>,
    keys: Vec<Key>,
    tokens: Vec<(Token, KeyId)>,
    root_tokens: Vec<(Token, RootKeyId)>,
}

fn replace<T>(list: &mut Vec<T>, same: impl Fn(&T) -> bool, fold: impl FnOnce(Option<T>) -> Option<T>) {
    let before = list.iter().position(same).map(|index| list.remove(index));
    list.push(fold(before).expect("the rules let it happen"));
}

impl Model {
    fn apply(&mut self, record: &Record) {
        match &record.stream {
            StreamId::Key(id) => replace(&mut self.keys, |it| it.id == *id, |it| Key::apply(it, record)),
            StreamId::Organization(id) => {
                replace(&mut self.organizations, |it| it.id == *id, |it| Organization::apply(it, record));
                if matches!(record.event, Event::OrganizationDeleted(..)) {
                    self.organization_deletions.insert(id.clone(), (record.position, record.id));
                }
            }
            StreamId::ClientLink(id) => {
                replace(&mut self.links, |it| it.id == *id, |it| ClientLink::apply(it, record));
                if matches!(record.event, Event::ClientUnlinked(..)) {
                    self.unlinkings.push((id.clone(), record.position, record.id));
                }
            }
            StreamId::Api(id) => replace(&mut self.apis, |it| it.id == *id, |it| Api::apply(it, record)),
            StreamId::RootKey(id) => {
                replace(&mut self.root_keys, |it| it.id == *id, |it| RootKey::apply(it, record));
            }
            // The steps create none of these.
            StreamId::Application(_)
            | StreamId::PortalSession(_)
            | StreamId::Erasure(_)
            | StreamId::Webhook(_) => {}
        }
    }

    fn key(&self, id: KeyId) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    fn organization(&self, id: &OrganizationId) -> Option<&Organization> {
        self.organizations.iter().find(|organization| organization.id == *id)
    }

    fn api(&self, id: ApiId) -> Option<&Api> {
        self.apis.iter().find(|api| api.id == id)
    }

    fn is_deleted(&self, id: &OrganizationId) -> bool {
        self.organization(id).is_some_and(|organization| organization.deleted_at.is_some())
    }

    fn link(&self, id: &ClientLinkId) -> Option<&ClientLink> {
        self.links.iter().find(|link| link.id == *id)
    }

    fn is_client(&self, partner_id: &OrganizationId, client_id: &OrganizationId) -> bool {
        let (partner_id, client_id) = (partner_id.clone(), client_id.clone());
        !self.is_deleted(&client_id)
            && self.link(&ClientLinkId { partner_id, client_id }).is_some_and(ClientLink::is_linked)
    }

    /// The first event that ended the basis of a key: its organization, its client or their link.
    fn end_of(&self, key: &Key) -> Option<EventId> {
        let deletions = [Some(&key.organization_id), key.owner.client_id.as_ref()].into_iter().flatten();
        let deletions = deletions.filter_map(|id| self.organization_deletions.get(id).copied());
        let unlinkings = self.unlinkings.iter().filter(|(id, position, _)| {
            id.partner_id == key.organization_id
                && Some(&id.client_id) == key.owner.client_id.as_ref()
                && *position > key.created_position
        });
        let ends = deletions.chain(unlinkings.map(|(_, position, event)| (*position, *event)));
        ends.min_by_key(|(position, _)| *position).map(|(_, event)| event)
    }

    /// Whether a key is valid for the requested organization, if any.
    fn is_good_for(&self, key: &Key, asked: Option<&str>) -> bool {
        let asked: Option<OrganizationId> = asked.map(|id| id.parse().unwrap());
        match (key.owner.kind, asked) {
            (OwnerKind::Client, asked) => asked.is_some() && asked == key.owner.client_id,
            (_, None) => true,
            (OwnerKind::Partner, Some(asked)) => {
                asked == key.organization_id || self.is_client(&key.organization_id, &asked)
            }
            (_, Some(asked)) => asked == key.organization_id,
        }
    }

    fn verify(&self, digest: Digest, question: &Question<'_>, now: Timestamp) -> (Code, Option<&Key>) {
        let accepted = |key: &&Key| {
            let previous = key.previous_tokens.iter();
            key.deleted_at.is_none()
                && (key.digest == digest
                    || previous.clone().any(|token| token.digest == digest && now < token.valid_until))
        };
        let Some(key) = self.keys.iter().find(accepted) else { return (Code::NotFound, None) };
        let has = |scope: &&str| key.scopes.iter().any(|it| it.as_str() == *scope);
        let api_deleted = key.api_id.and_then(|id| self.api(id)).is_some_and(|api| api.deleted_at.is_some());
        let code = if self.end_of(key).is_some() {
            Code::OrganizationInactive
        } else if key.revoked_at.is_some() {
            Code::Revoked
        } else if key.expiry_recorded || key.expires_at.is_some_and(|end| end <= now) {
            Code::Expired
        } else if question.environment.is_some_and(|asked| asked != key.environment) {
            Code::WrongEnvironment
        } else if !self.is_good_for(key, question.organization_id) {
            Code::WrongOrganization
        } else if api_deleted
            || question
                .api_id
                .is_some_and(|asked| key.api_id.map(|id| id.to_string()).as_deref() != Some(asked))
        {
            Code::WrongApi
        } else if !question.scopes.iter().all(has) {
            Code::InsufficientScope
        } else {
            Code::Valid
        };
        (code, Some(key))
    }

    fn pending_expiries(&self) -> Vec<(Timestamp, KeyId)> {
        let pending = self.keys.iter().filter(|key| key.deleted_at.is_none() && !key.expiry_recorded);
        let mut pending: Vec<_> = pending.filter_map(|key| key.expires_at.map(|end| (end, key.id))).collect();
        pending.sort();
        pending
    }

    fn counts(&self) -> KeyCounts {
        let mut counts = KeyCounts::default();
        for key in &self.keys {
            let count = if key.deleted_at.is_some() {
                &mut counts.deleted
            } else if key.expiry_recorded {
                &mut counts.expired
            } else if key.revoked_at.is_some() {
                &mut counts.revoked
            } else {
                &mut counts.active
            };
            *count += 1;
        }
        counts
    }
}

struct Run {
    history: History,
    model: Model,
    index: VerificationIndex,
    records: Vec<Record>,
}

impl Run {
    fn new() -> Self {
        let index = VerificationIndex::new();
        Self { history: History::new(), model: Model::default(), index, records: Vec::new() }
    }

    fn append(&mut self, stream: &StreamId, organization_id: Option<&OrganizationId>, events: Vec<Event>) {
        for event in events {
            let record = self.history.record(stream.clone(), organization_id.cloned(), event);
            self.index.apply(&record).unwrap();
            self.model.apply(&record);
            self.records.push(record);
        }
    }

    fn organization_command(&mut self, number: usize, command: &OrganizationCommand) {
        let id = organization_id(number);
        let events = organization::decide(self.model.organization(&id), command, self.history.now);
        self.append(&StreamId::Organization(id.clone()), Some(&id), events.unwrap_or_default());
    }

    fn link_command(&mut self, partner: usize, client: usize, command: ClientLinkCommand) {
        let id = ClientLinkId { partner_id: organization_id(partner), client_id: organization_id(client) };
        let state = ClientLinkState {
            link: self.model.link(&id),
            partner: self.model.organization(&id.partner_id),
            client: self.model.organization(&id.client_id),
        };
        let events = portfolio::decide(&id, state, command);
        let partner_id = id.partner_id.clone();
        self.append(&StreamId::ClientLink(id), Some(&partner_id), events.unwrap_or_default());
    }

    fn api_command(&mut self, number: usize, command: &ApiCommand) {
        let id = api_id(number);
        let events = resource_api::decide(self.model.api(id), command, self.history.now);
        self.append(&StreamId::Api(id), None, events.unwrap_or_default());
    }

    fn root_key_command(&mut self, number: usize, command: &RootKeyCommand) -> bool {
        let id = RootKeyId::from_u128(number as u128 + 1);
        let root_key = self.model.root_keys.iter().find(|root_key| root_key.id == id);
        let organization_id = match (root_key, command) {
            (None, RootKeyCommand::Create { organization_id, .. }) => organization_id.clone(),
            (root_key, _) => root_key.and_then(|root_key| root_key.organization_id.clone()),
        };
        let events = root_key::decide(root_key, command, self.history.now).unwrap_or_default();
        let happened = !events.is_empty();
        self.append(&StreamId::RootKey(id), organization_id.as_ref(), events);
        happened
    }

    fn key_command(&mut self, number: usize, command: &KeyCommand) -> bool {
        let id = KeyId::from_u128(number as u128 + 1);
        let key = self.model.key(id);
        let (organization_id, api_id) = match (key, command) {
            (Some(key), _) => (key.organization_id.clone(), key.api_id),
            (None, KeyCommand::Create(create)) => (create.organization_id.clone(), create.api_id),
            (None, _) => return false,
        };
        let owner = match (key, command) {
            (None, KeyCommand::Create(create)) => Some(&create.owner),
            (key, _) => key.map(|key| &key.owner),
        };
        let client_id = owner.and_then(|owner| owner.client_id.clone());
        let link = client_id.clone().and_then(|client_id| {
            self.model.link(&ClientLinkId { partner_id: organization_id.clone(), client_id })
        });
        let state = KeyState {
            keys_of_user: 0,
            key,
            organization: self.model.organization(&organization_id),
            api: api_id.and_then(|id| self.model.api(id)),
            client: client_id.and_then(|id| self.model.organization(&id)),
            link,
        };
        let events = key::decide(state, command, self.history.now).unwrap_or_default();
        let happened = !events.is_empty();
        self.append(&StreamId::Key(id), Some(&organization_id), events);
        happened
    }

    fn step(&mut self, step: &Step) {
        let after = |now: Timestamp, lives: i64| now.saturating_add_millis(lives);
        match step {
            Step::CreateOrganization(number) => {
                let kind = if *number < 2 { OrganizationKind::Partner } else { OrganizationKind::Paid };
                self.organization_command(*number, &OrganizationCommand::Create { name: None, kind });
            }
            Step::DeleteOrganization(number) => {
                self.organization_command(*number, &OrganizationCommand::Delete);
            }
            Step::SetPolicy(number, max_keys_per_user) => {
                let policy = Policy { max_keys_per_user: *max_keys_per_user, ..Policy::default() };
                let command = OrganizationCommand::SetPolicy(Environment::Preview, policy);
                self.organization_command(*number, &command);
            }
            Step::Link(partner, client) => self.link_command(*partner, *client, ClientLinkCommand::Link),
            Step::Unlink(partner, client) => {
                self.link_command(*partner, *client, ClientLinkCommand::Unlink);
            }
            Step::RegisterApi(number) => {
                let facts = ApiRegistered {
                    name: Name::new("Users").unwrap(),
                    audience: Audience::new("https://users.example").unwrap(),
                    token_prefix: TokenPrefix::default(),
                    scopes: scopes(7),
                };
                self.api_command(*number, &ApiCommand::Register(facts));
            }
            Step::DeleteApi(number) => self.api_command(*number, &ApiCommand::Delete),
            Step::CreateRootKey(number, organization) => {
                let token = Token::generate_root(&mut self.history.rng).unwrap();
                let facts = RootKeyCreated {
                    digest: token.digest(),
                    hint: token.hint(),
                    permissions: vec![Permission::KeysVerify],
                };
                let organization_id = organization.map(organization_id);
                let command = RootKeyCommand::Create { organization_id, name: None, facts };
                if self.root_key_command(*number, &command) {
                    self.model.root_tokens.push((token, RootKeyId::from_u128(*number as u128 + 1)));
                }
            }
            Step::RevokeRootKey(number) => {
                self.root_key_command(*number, &RootKeyCommand::Revoke);
            }
            Step::CreateKey { key, organization, portfolio, api, preview, scopes: mask, lives } => {
                let environment = if *preview { Environment::Preview } else { Environment::Production };
                let token = self.history.token(environment);
                let create = CreateKey {
                    organization_id: organization_id(*organization),
                    api_id: api.map(api_id),
                    owner: match portfolio {
                        None => Owner::in_organization(*preview),
                        Some(None) => Owner::partner(),
                        Some(Some(client)) => Owner::client(organization_id(*client)),
                    },
                    user_id: (*preview && portfolio.is_none()).then(|| UserId::new("ada").unwrap()),
                    name: None,
                    description: None,
                    metadata: None,
                    environment,
                    scopes: scopes(*mask),
                    expires_at: lives.map(|lives| after(self.history.now, lives)),
                    digest: token.digest(),
                    hint: token.hint(),
                };
                if self.key_command(*key, &KeyCommand::Create(Box::new(create))) {
                    self.model.tokens.push((token, KeyId::from_u128(*key as u128 + 1)));
                }
            }
            Step::EditKey { key, name, metadata, scopes: mask, lives } => {
                let metadata_set = || Metadata::new(&serde_json::json!({ "plan": "pro" })).unwrap();
                let edit = EditKey {
                    name: name.map(|set| set.then(|| Name::new("Other").unwrap())),
                    description: None,
                    metadata: metadata.map(|set| set.then(metadata_set)),
                    scopes: mask.map(scopes),
                    expires_at: lives.map(|lives| lives.map(|lives| after(self.history.now, lives))),
                };
                self.key_command(*key, &KeyCommand::Edit(Box::new(edit)));
            }
            Step::Revoke(key) => {
                let reason = RevocationReason::Unspecified;
                self.key_command(*key, &KeyCommand::Revoke { reason, note: None });
            }
            Step::Reactivate(key) => {
                self.key_command(*key, &KeyCommand::Reactivate);
            }
            Step::Rotate(key, overlap_millis) => {
                let token = self.history.token(Environment::Production);
                let (digest, hint) = (token.digest(), token.hint());
                let command = KeyCommand::Rotate { digest, hint, overlap_millis: *overlap_millis };
                if self.key_command(*key, &command) {
                    self.model.tokens.push((token, KeyId::from_u128(*key as u128 + 1)));
                }
            }
            Step::RecordExpiry(key) => {
                self.key_command(*key, &KeyCommand::RecordExpiry);
            }
            Step::DeleteKey(key) => {
                self.key_command(*key, &KeyCommand::Delete);
            }
            Step::Wait(millis) => self.history.now = self.history.now.saturating_add_millis(*millis),
            Step::Restart => self.restart(),
        }
    }

    /// Goes on with what a snapshot of the index holds.
    fn restart(&mut self) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("snapshot");
        let position = self.index.save_snapshot(&path, SourceId([1; 16]), [2; 32]).unwrap();
        let snapshot = VerificationIndex::load_snapshot(&path).unwrap();
        assert_eq!(snapshot.position, position);
        self.index = snapshot.index;
    }

    fn check(&self) {
        let (model, index) = (&self.model, &self.index);
        assert_eq!(index.position(), self.history.position);
        for later in [0, 1, 10, 100] {
            let now = self.history.now.saturating_add_millis(later);
            for (token, key_id) in &model.tokens {
                check_token(model, index, token, now);
                assert_eq!(index.find_token(token.expose()), Some(*key_id));
            }
            for organization in model.organizations.iter().filter(|it| it.policies.count_keys_of_users()) {
                let (user_id, environment) = (UserId::new("ada").unwrap(), Environment::Preview);
                let of_user = |key: &&Key| {
                    key.organization_id == organization.id
                        && key.environment == environment
                        && key.user_id.as_ref() == Some(&user_id)
                        && key.status(now) == key::KeyStatus::Active
                };
                let count = model.keys.iter().filter(of_user).count();
                let organization_id = organization.id.clone();
                let user = UserOf { organization_id, environment, user_id: user_id.clone() };
                assert_eq!(index.keys_of_user(&user, now) as usize, count);
            }
            let due = model.pending_expiries().into_iter().filter(|(end, _)| *end <= now);
            let due: Vec<KeyId> = due.map(|(_, id)| id).collect();
            assert_eq!(index.due_expiries(now, usize::MAX), due);
            assert_eq!(index.due_expiries(now, 1), due.get(..1).unwrap_or_default());
        }
        assert_eq!(index.next_expiry(), model.pending_expiries().first().map(|(end, _)| *end));
        let left = model.keys.iter().filter(|key| key.deleted_at.is_none());
        let left: BTreeSet<(KeyId, EventId)> =
            left.filter_map(|key| Some((key.id, model.end_of(key)?))).collect();
        let found = index.orphaned_keys(usize::MAX);
        assert_eq!(index.orphaned_keys(1), found.get(..1).unwrap_or_default());
        assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), left);
        assert_eq!(found.len(), left.len());
        assert_eq!(index.key_counts(), model.counts());
        self.check_directory();
    }

    fn check_directory(&self) {
        let (model, index) = (&self.model, &self.index);
        let mut organizations: Vec<_> = model.organizations.iter().collect();
        organizations.sort_by_key(|organization| &organization.id);
        let paged = index.organizations(None, 1).into_iter();
        let paged = paged.flat_map(|first| {
            let rest = index.organizations(Some(&first.id), 10);
            std::iter::once(first).chain(rest)
        });
        assert_eq!(paged.collect::<Vec<_>>().iter().map(|it| &**it).collect::<Vec<_>>(), organizations);
        for organization in organizations {
            assert_eq!(index.organization(&organization.id).as_deref(), Some(organization));
        }
        for partner in 0..ORGANIZATIONS {
            let partner = organization_id(partner);
            let mut clients: Vec<_> = model.links.iter().filter(|it| it.id.partner_id == partner).collect();
            clients.retain(|link| model.is_client(&partner, &link.id.client_id));
            clients.sort_by_key(|link| &link.id.client_id);
            let (first, total) = index.clients(&partner, None, 1);
            assert_eq!(total, clients.len());
            let rest = first.first().map(|link| index.clients(&partner, Some(&link.id.client_id), 10).0);
            let paged: Vec<_> = first.into_iter().chain(rest.into_iter().flatten()).collect();
            assert_eq!(paged.iter().map(|link| &**link).collect::<Vec<_>>(), clients);
        }
        for api in &model.apis {
            assert_eq!(index.api(api.id).as_deref(), Some(api));
        }
        assert_eq!(index.organization_count(), model.organizations.len());
        assert_eq!(index.api_count(), model.apis.len());
        assert_eq!(index.root_key_count(), model.root_keys.len());
        for (token, id) in &model.root_tokens {
            let root_key = model.root_keys.iter().find(|root_key| root_key.id == *id).unwrap();
            assert_eq!(index.root_key(*id).as_deref(), Some(root_key));
            let bound_to_deleted = root_key.organization_id.as_ref().is_some_and(|id| model.is_deleted(id));
            let accepted = root_key.revoked_at.is_none() && !bound_to_deleted;
            let found = index.authenticate_root_key(token.expose());
            assert_eq!(found.as_deref(), accepted.then_some(root_key));
            assert_eq!(index.find_token(token.expose()), None);
        }
    }
}

fn check_token(model: &Model, index: &VerificationIndex, token: &Token, now: Timestamp) {
    let other_api = api_id(1).to_string();
    let questions = [
        Question::default(),
        Question { environment: Some(Environment::Production), ..Question::default() },
        Question { organization_id: Some("org-0"), ..Question::default() },
        Question { organization_id: Some("org-1"), ..Question::default() },
        Question { organization_id: Some("org-2"), ..Question::default() },
        Question { api_id: Some(&other_api), ..Question::default() },
        Question { scopes: &["admin", "read:users"], ..Question::default() },
        Question {
            environment: Some(Environment::Preview),
            organization_id: Some("org-1"),
            api_id: Some(&other_api),
            scopes: &["write:users"],
        },
    ];
    for question in questions {
        let (code, key) = model.verify(token.digest(), &question, now);
        index.verify(token.expose(), &question, now, |verdict| {
            assert_eq!(verdict.code, code, "{question:?}");
            assert_eq!(verdict.position, index.position());
            assert_eq!(verdict.key.is_some(), key.is_some());
            if let (Some(found), Some(key)) = (verdict.key, key) {
                assert_eq!(found.key_id(), key.id);
                assert_eq!(found.organization_id(), &key.organization_id);
                assert_eq!(found.owner(), key.owner.kind);
                let portfolio_wide = key.owner.kind == OwnerKind::Partner && code == Code::Valid;
                let own = key.organization_id.as_str();
                let asked = question.organization_id.filter(|asked| portfolio_wide && *asked != own);
                assert_eq!(verdict.client_id, key.owner.client_id.as_ref().map(|id| id.as_str()).or(asked));
                assert_eq!(found.user_id(), key.user_id.as_ref());
                assert_eq!(found.name(), key.name.as_ref());
                assert_eq!(found.environment(), key.environment);
                assert_eq!(found.api_id(), key.api_id);
                assert_eq!(found.api_id_text().map(ToOwned::to_owned), key.api_id.map(|id| id.to_string()));
                assert_eq!(found.scopes(), key.scopes);
                assert_eq!(found.metadata(), key.metadata.as_ref());
                assert_eq!(found.expires_at(), key.expires_at);
            }
        });
    }
}

proptest! {
    #[test]
    fn the_index_answers_as_the_model_does(steps in proptest::collection::vec(step(), 1..80)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
            run.check();
        }
        run.restart();
        run.check();
    }
}

fn replayed(records: &[Record]) -> VerificationIndex {
    let index = VerificationIndex::new();
    index.apply_all(records).unwrap();
    index
}

proptest! {
    #[test]
    fn a_snapshot_is_what_a_replay_makes_whatever_is_applied_while_it_is_saved(
        before in proptest::collection::vec(step(), 0..60),
        meanwhile in proptest::collection::vec(proptest::collection::vec(step(), 0..6), 1..10),
        keys_at_a_time in 1_usize..4,
    ) {
        let mut run = Run::new();
        before.iter().for_each(|step| run.step(step));
        let count = run.records.len();
        let index = replayed(&run.records);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("snapshot");
        let mut meanwhile = meanwhile.iter();
        let go_on = || {
            let applied = run.records.len();
            meanwhile.next().into_iter().flatten().for_each(|step| run.step(step));
            index.apply_all(&run.records[applied..]).unwrap();
            true
        };
        let position = index.save_in_pieces(&path, SourceId([1; 16]), |_| Ok([2; 32]), go_on, keys_at_a_time).unwrap();
        prop_assert_eq!(position.get(), count as u64);
        let snapshot = VerificationIndex::load_snapshot(&path).unwrap();
        prop_assert_eq!(snapshot.index.first_difference(&replayed(&run.records[..count])), None);
        // It goes on from there, and nothing of the walk is left in the index that was saved.
        snapshot.index.apply_all(&run.records[count..]).unwrap();
        let whole = replayed(&run.records);
        prop_assert_eq!(snapshot.index.first_difference(&whole), None);
        prop_assert_eq!(index.first_difference(&whole), None);
        prop_assert!(index.writer().walk.is_none());
    }
}
