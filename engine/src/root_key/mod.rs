//! The root key: a credential of those who manage or check keys.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::id::{OrganizationId, RootKeyId};
use crate::position::Version;
use crate::record::{Record, StreamId};
use crate::rejection::Rejection;
use crate::text::Name;
use crate::time::Timestamp;
use crate::token::{Digest, TokenHint};

/// What a caller may do. The numbers are stored (docs/format.md) and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Permission {
    /// All of the others.
    Admin,
    /// Issue keys.
    KeysCreate,
    /// List and read keys.
    KeysRead,
    /// Rename and edit keys.
    KeysUpdate,
    /// Revoke, reactivate and rotate keys.
    KeysRevoke,
    /// Delete keys.
    KeysDelete,
    /// Verify tokens.
    KeysVerify,
    /// Read organizations.
    OrganizationsRead,
    /// Create, change and delete organizations.
    OrganizationsWrite,
    /// Read APIs.
    ApisRead,
    /// Register, change and delete APIs.
    ApisWrite,
    /// Read the audit trail.
    EventsRead,
    /// Create and delete OAuth 2.0 clients.
    ApplicationsWrite,
    /// Mint portal sessions.
    PortalWrite,
    /// Register, change and delete webhooks.
    WebhooksWrite,
}

impl Permission {
    const TABLE: [(Self, u8, &'static str); 15] = [
        (Self::Admin, 0, "admin"),
        (Self::KeysCreate, 1, "keys:create"),
        (Self::KeysRead, 2, "keys:read"),
        (Self::KeysUpdate, 3, "keys:update"),
        (Self::KeysRevoke, 4, "keys:revoke"),
        (Self::KeysDelete, 5, "keys:delete"),
        (Self::KeysVerify, 6, "keys:verify"),
        (Self::OrganizationsRead, 7, "organizations:read"),
        (Self::OrganizationsWrite, 8, "organizations:write"),
        (Self::ApisRead, 9, "apis:read"),
        (Self::ApisWrite, 10, "apis:write"),
        (Self::EventsRead, 11, "events:read"),
        (Self::ApplicationsWrite, 12, "applications:write"),
        (Self::PortalWrite, 13, "portal:write"),
        (Self::WebhooksWrite, 14, "webhooks:write"),
    ];

    /// Whether a caller with `held` may do what this permission allows.
    #[must_use]
    pub fn is_granted_by(self, held: &[Self]) -> bool {
        held.iter().any(|permission| *permission == self || *permission == Self::Admin)
    }

    /// What is allowed by both: `admin` in one of them stands for all that is in the other.
    #[must_use]
    pub fn in_both(one: &[Self], other: &[Self]) -> Vec<Self> {
        let in_one = other.iter().filter(|permission| permission.is_granted_by(one));
        let in_other = one.iter().filter(|permission| permission.is_granted_by(other));
        let mut both: Vec<Self> = in_one.chain(in_other).copied().collect();
        both.sort_unstable();
        both.dedup();
        both
    }

    /// The permissions as an OAuth 2.0 scope (RFC 6749 §3.3): names with a space between them.
    #[must_use]
    pub fn to_scope(permissions: &[Self]) -> String {
        permissions.iter().map(|permission| permission.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// The permissions of an OAuth 2.0 scope.
    ///
    /// # Errors
    /// When it names something that is no permission.
    pub fn of_scope(scope: &str) -> Result<Vec<Self>, String> {
        scope.split(' ').filter(|name| !name.is_empty()).map(str::parse).collect()
    }
}

crate::coded::coded!(Permission, "permission");

/// A root key was created. The organization that it is bound to, if one, is the record's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootKeyCreated {
    /// Digest of its token.
    pub digest: Digest,
    /// What of the token may be shown.
    pub hint: TokenHint,
    /// What it allows.
    pub permissions: Vec<Permission>,
}

/// The personal part of [`RootKeyCreated`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootKeyCreatedPersonal {
    /// What people call it.
    pub name: Option<Name>,
}

/// What can be asked of a root key.
#[derive(Debug, Clone)]
pub enum RootKeyCommand {
    /// Create it.
    Create {
        /// The organization it is bound to, if one.
        organization_id: Option<OrganizationId>,
        /// What people call it.
        name: Option<Name>,
        /// The facts to record.
        facts: RootKeyCreated,
    },
    /// Stop it, for good.
    Revoke,
}

/// A root key as its events have left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootKey {
    /// Its id.
    pub id: RootKeyId,
    /// The organization it is bound to, if one.
    pub organization_id: Option<OrganizationId>,
    /// What people call it.
    pub name: Option<Name>,
    /// What it allows.
    pub permissions: Vec<Permission>,
    /// Digest of its token.
    pub digest: Digest,
    /// What of the token may be shown.
    pub hint: TokenHint,
    /// When it was created.
    pub created_at: Timestamp,
    /// The id of the actor who created it.
    pub created_by: Arc<str>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// How many events it has.
    pub version: Version,
}

impl RootKey {
    /// The root key after `record`, which must be of its stream; `None` comes back when it does not fit.
    #[must_use]
    pub fn apply(root_key: Option<Self>, record: &Record) -> Option<Self> {
        let StreamId::RootKey(id) = record.stream else { return None };
        match (root_key, &record.event) {
            (None, Event::RootKeyCreated(facts, personal)) => Some(Self {
                id,
                organization_id: record.organization_id.clone(),
                name: personal.name.clone(),
                permissions: facts.permissions.clone(),
                digest: facts.digest,
                hint: facts.hint.clone(),
                created_at: record.time,
                created_by: record.actor.id.clone(),
                revoked_at: None,
                version: record.version,
            }),
            (Some(root_key), Event::RootKeyRevoked((), ())) => {
                Some(Self { revoked_at: Some(record.time), version: record.version, ..root_key })
            }
            _ => None,
        }
    }
}

/// Says what `command` leads to: the events to append.
///
/// # Errors
/// The rule that refuses the command.
pub fn decide(
    root_key: Option<&RootKey>,
    command: &RootKeyCommand,
    _now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    match (root_key, command) {
        (None, RootKeyCommand::Create { name, facts, .. }) => {
            let personal = RootKeyCreatedPersonal { name: name.clone() };
            Ok(vec![Event::RootKeyCreated(facts.clone(), personal)])
        }
        (Some(_), RootKeyCommand::Create { .. }) => Err(Rejection::RootKeyExists),
        (None, RootKeyCommand::Revoke) => Err(Rejection::RootKeyUnknown),
        (Some(root_key), RootKeyCommand::Revoke) => match root_key.revoked_at {
            Some(_) => Err(Rejection::RootKeyAlreadyRevoked),
            None => Ok(vec![Event::RootKeyRevoked((), ())]),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::Permission::{Admin, KeysRead, KeysVerify};
    use super::*;

    #[test]
    fn what_both_allow() {
        assert_eq!(Permission::in_both(&[Admin], &[KeysRead, KeysVerify]), [KeysRead, KeysVerify]);
        assert_eq!(Permission::in_both(&[KeysRead], &[Admin]), [KeysRead]);
        assert_eq!(Permission::in_both(&[KeysRead, KeysVerify], &[KeysVerify]), [KeysVerify]);
        assert_eq!(Permission::in_both(&[KeysRead], &[KeysVerify]), []);
        assert_eq!(Permission::in_both(&[Admin], &[Admin]), [Admin]);
    }

    #[test]
    fn a_scope_is_read_as_it_was_written() {
        let all: Vec<Permission> = Permission::names().map(|name| name.parse().unwrap()).collect();
        assert_eq!(Permission::of_scope(&Permission::to_scope(&all)).unwrap(), all);
        assert!(Permission::of_scope("keys:read keys:everything").is_err());
    }
}
