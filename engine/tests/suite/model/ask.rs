//! Random commands in the words of the model, and the engine's commands for them.

use keyledger_engine::domain::key::{CreateKey, EditKey, KeyCommand, Owner, RevocationReason};
use keyledger_engine::domain::organization::OrganizationCommand;
use keyledger_engine::domain::policy::Policy;
use keyledger_engine::domain::portfolio::ClientLinkCommand;
use keyledger_engine::ledger::Command;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ClientLinkId, KeyId, OrganizationId};
use keyledger_engine::value::text::{Name, UserId};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{Digest, TokenHint};
use rand::RngExt;
use rand::rngs::StdRng;

use super::state_table::ModelPolicy;

/// Command, in the words of the model.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Create { key: usize, organization: usize, owner: AskOwner, name: Option<String>, expires_in: Option<i64> },
    Rename { key: usize, name: Option<String> },
    SetExpiry { key: usize, expires_in: Option<i64> },
    Revoke(usize),
    Reactivate(usize),
    Rotate(usize),
    Delete(usize),
    RecordExpiry(usize),
    DeleteOrganization(usize),
    Link { partner: usize, client: usize },
    Unlink { partner: usize, client: usize },
    SetPolicy { organization: usize, policy: Option<ModelPolicy> },
}

/// Owner that a key is created for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AskOwner {
    Organization,
    User(u8),
    Partner,
    Client(usize),
}

pub(super) const fn key_of(ask: &Ask) -> Option<usize> {
    match ask {
        Ask::Create { key, .. } | Ask::Rename { key, .. } | Ask::SetExpiry { key, .. } => Some(*key),
        Ask::Revoke(key)
        | Ask::Reactivate(key)
        | Ask::Rotate(key)
        | Ask::Delete(key)
        | Ask::RecordExpiry(key) => Some(*key),
        Ask::DeleteOrganization(_) | Ask::Link { .. } | Ask::Unlink { .. } | Ask::SetPolicy { .. } => None,
    }
}

pub(super) fn random_ask(rng: &mut StdRng, organizations: usize) -> Ask {
    let key = rng.random_range(0..12);
    let name = rng.random_bool(0.7).then(|| format!("name {}", rng.random_range(0..3)));
    let expires_in = rng.random_bool(0.5).then(|| rng.random_range(-20..400));
    let (partner, client) = (rng.random_range(0..organizations), rng.random_range(0..organizations));
    let owner = match rng.random_range(0..6) {
        0 => AskOwner::Partner,
        4 | 5 => AskOwner::User(rng.random_range(0..2)),
        1 | 2 => AskOwner::Client(client),
        _ => AskOwner::Organization,
    };
    match rng.random_range(0..22) {
        20 | 21 => {
            let policy = ModelPolicy {
                max_life_seconds: rng.random_bool(0.2).then_some(0),
                max_keys_per_user: rng.random_bool(0.7).then(|| rng.random_range(1..4)),
                name_required: rng.random_bool(0.2),
            };
            Ask::SetPolicy { organization: partner, policy: rng.random_bool(0.7).then_some(policy) }
        }
        0..=3 => Ask::Create { key, organization: partner, owner, name, expires_in },
        16..=18 => Ask::Link { partner, client },
        19 => Ask::Unlink { partner, client },
        4 | 5 => Ask::Rename { key, name },
        6 => Ask::SetExpiry { key, expires_in },
        7 | 8 => Ask::Revoke(key),
        9 | 10 => Ask::Reactivate(key),
        11 | 12 => Ask::Rotate(key),
        13 => Ask::RecordExpiry(key),
        14 if rng.random_bool(0.1) => Ask::DeleteOrganization(rng.random_range(0..organizations)),
        _ => Ask::Delete(key),
    }
}

/// Creation of a key of the first organization, without optional fields.
pub(super) const fn new_key(key: usize) -> Ask {
    Ask::Create { key, organization: 0, owner: AskOwner::Organization, name: None, expires_in: None }
}

pub(super) fn organization_id(index: usize) -> OrganizationId {
    format!("org-{index}").parse().unwrap()
}

pub(super) fn link_id(partner: usize, client: usize) -> ClientLinkId {
    ClientLinkId { partner_id: organization_id(partner), client_id: organization_id(client) }
}

pub(super) fn key_id(index: usize) -> KeyId {
    KeyId::from_u128(1 + index as u128)
}

pub(super) fn hint() -> TokenHint {
    TokenHint { start: "kl_live_abcd".into(), last_four: "wxyz".into() }
}

/// Digest of a token. In the model a token is a number.
pub(super) fn digest(token: u8) -> Digest {
    Digest::from_bytes([token; 32])
}

pub(super) fn command_of(ask: &Ask, now: i64, next_token: u8) -> Command {
    let at = |millis: Option<i64>| millis.map(|millis| Timestamp::from_millis(now + millis));
    let name_of = |name: &Option<String>| name.as_deref().map(|name| Name::new(name).unwrap());
    let (key, command) = match ask {
        Ask::DeleteOrganization(index) => {
            return Command::Organization(organization_id(*index), OrganizationCommand::Delete);
        }
        Ask::SetPolicy { organization, policy } => {
            let command = match policy {
                None => OrganizationCommand::RemovePolicy(Environment::Production),
                Some(policy) => {
                    let policy = Policy {
                        max_lifetime_seconds: policy.max_life_seconds.map(i64::unsigned_abs),
                        max_keys_per_user: policy.max_keys_per_user.map(|max| max as u32),
                        name_required: policy.name_required,
                        ..Policy::default()
                    };
                    OrganizationCommand::SetPolicy(Environment::Production, policy)
                }
            };
            return Command::Organization(organization_id(*organization), command);
        }
        Ask::Link { partner, client } => {
            return Command::ClientLink(link_id(*partner, *client), ClientLinkCommand::Link);
        }
        Ask::Unlink { partner, client } => {
            return Command::ClientLink(link_id(*partner, *client), ClientLinkCommand::Unlink);
        }
        Ask::Create { key, organization, owner, name, expires_in } => {
            let create = CreateKey {
                organization_id: organization_id(*organization),
                api_id: None,
                owner: match owner {
                    AskOwner::Organization => Owner::in_organization(false),
                    AskOwner::User(_) => Owner::in_organization(true),
                    AskOwner::Partner => Owner::partner(),
                    AskOwner::Client(client) => Owner::client(organization_id(*client)),
                },
                user_id: match owner {
                    AskOwner::User(user) => Some(UserId::new(&format!("user-{user}")).unwrap()),
                    _ => None,
                },
                name: name_of(name),
                description: None,
                metadata: None,
                environment: Environment::Production,
                scopes: Vec::new(),
                expires_at: at(*expires_in),
                digest: digest(next_token),
                hint: hint(),
            };
            (*key, KeyCommand::Create(Box::new(create)))
        }
        Ask::Rename { key, name } => {
            (*key, KeyCommand::Edit(Box::new(EditKey { name: Some(name_of(name)), ..EditKey::default() })))
        }
        Ask::SetExpiry { key, expires_in } => {
            let edit = EditKey { expires_at: Some(at(*expires_in)), ..EditKey::default() };
            (*key, KeyCommand::Edit(Box::new(edit)))
        }
        Ask::Revoke(key) => (*key, KeyCommand::Revoke { reason: RevocationReason::Superseded, note: None }),
        Ask::Reactivate(key) => (*key, KeyCommand::Reactivate),
        Ask::Rotate(key) => {
            (*key, KeyCommand::Rotate { digest: digest(next_token), hint: hint(), overlap_millis: 0 })
        }
        Ask::Delete(key) => (*key, KeyCommand::Delete),
        Ask::RecordExpiry(key) => (*key, KeyCommand::RecordExpiry),
    };
    Command::Key(key_id(key), command)
}
