//! Random steps in the lives of a few keys, organizations, APIs and root keys, applied to the index and to
//! the model.

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::{
    self, CreateKey, EditKey, KeyCommand, KeyState, Owner, RevocationReason,
};
use keyledger_engine::domain::organization::{self, OrganizationCommand, OrganizationKind};
use keyledger_engine::domain::policy::Policy;
use keyledger_engine::domain::portfolio::{self, ClientLinkCommand, ClientLinkState};
use keyledger_engine::domain::record::Record;
use keyledger_engine::domain::resource_api::{self, ApiCommand, ApiRegistered};
use keyledger_engine::domain::root_key::{self, RootKeyCommand, RootKeyCreated};
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::log::SourceId;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApiId, ClientLinkId, KeyId, OrganizationId, RootKeyId};
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::text::{Audience, Metadata, Name, Scope, UserId};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{Token, TokenPrefix};
use proptest::prelude::*;

use super::model::Model;
use super::{History, VerificationIndex, key as mac_key};

pub(super) const ORGANIZATIONS: usize = 3;
pub(super) const APIS: usize = 2;
pub(super) const KEYS: usize = 5;
pub(super) const ROOT_KEYS: usize = 3;
pub(super) const SCOPES: [&str; 3] = ["read:users", "write:users", "admin"];

/// What is tried next; the rules may refuse it.
#[derive(Debug, Clone)]
pub(super) enum Step {
    CreateOrganization(usize),
    DeleteOrganization(usize),
    SetPolicy(usize, Option<u32>),
    Link(usize, usize),
    Unlink(usize, usize),
    RegisterApi(usize),
    DeleteApi(usize),
    CreateRootKey(usize, Option<usize>),
    RevokeRootKey(usize),
    CreateKey(NewKey),
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

/// A key to be created.
#[derive(Debug, Clone)]
pub(super) struct NewKey {
    key: usize,
    organization: usize,
    /// For a partner, or for one of its clients.
    portfolio: Option<Option<usize>>,
    api: Option<usize>,
    preview: bool,
    scopes: u8,
    lives: Option<i64>,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
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
                Step::CreateKey(NewKey { key, organization, portfolio, api, preview, scopes, lives })
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

pub(super) fn organization_id(number: usize) -> OrganizationId {
    format!("org-{number}").parse().unwrap()
}

pub(super) fn api_id(number: usize) -> ApiId {
    ApiId::from_u128(number as u128 + 1)
}

fn scopes(mask: u8) -> Vec<Scope> {
    let set = SCOPES.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1);
    set.map(|(_, scope)| Scope::new(scope).unwrap()).collect()
}

/// A history in progress: the index under test and the model get the same records.
pub(super) struct Run {
    pub(super) history: History,
    pub(super) model: Model,
    pub(super) index: VerificationIndex,
    pub(super) records: Vec<Record>,
}

impl Run {
    pub(super) fn new() -> Self {
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

    fn create_root_key(&mut self, number: usize, organization: Option<usize>) {
        let token = Token::generate_root(&mut self.history.rng).unwrap();
        let facts = RootKeyCreated {
            digest: token.digest(),
            hint: token.hint(),
            permissions: vec![Permission::KeysVerify],
        };
        let organization_id = organization.map(organization_id);
        let command = RootKeyCommand::Create { organization_id, name: None, facts };
        if self.root_key_command(number, &command) {
            self.model.root_tokens.push((token, RootKeyId::from_u128(number as u128 + 1)));
        }
    }

    fn create_key(&mut self, new: &NewKey) {
        let environment = if new.preview { Environment::Preview } else { Environment::Production };
        let token = self.history.token(environment);
        let create = CreateKey {
            organization_id: organization_id(new.organization),
            api_id: new.api.map(api_id),
            owner: match new.portfolio {
                None => Owner::in_organization(new.preview),
                Some(None) => Owner::partner(),
                Some(Some(client)) => Owner::client(organization_id(client)),
            },
            user_id: (new.preview && new.portfolio.is_none()).then(|| UserId::new("ada").unwrap()),
            name: None,
            description: None,
            metadata: None,
            environment,
            scopes: scopes(new.scopes),
            expires_at: new.lives.map(|lives| self.history.now.saturating_add_millis(lives)),
            digest: token.digest(),
            hint: token.hint(),
        };
        if self.key_command(new.key, &KeyCommand::Create(Box::new(create))) {
            self.model.tokens.push((token, KeyId::from_u128(new.key as u128 + 1)));
        }
    }

    pub(super) fn step(&mut self, step: &Step) {
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
            Step::CreateRootKey(number, organization) => self.create_root_key(*number, *organization),
            Step::RevokeRootKey(number) => {
                self.root_key_command(*number, &RootKeyCommand::Revoke);
            }
            Step::CreateKey(new) => self.create_key(new),
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

    /// Replaces the index by one loaded from its snapshot.
    pub(super) fn restart(&mut self) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("snapshot");
        let position = self.index.save_snapshot(&path, SourceId([1; 16]), [2; 32], &mac_key()).unwrap();
        let snapshot = VerificationIndex::load_snapshot(&path, Some(&mac_key())).unwrap();
        assert_eq!(snapshot.position, position);
        self.index = snapshot.index;
    }
}
