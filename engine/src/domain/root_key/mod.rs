//! The root key: a credential of those who manage or check keys.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::record::Record;
use crate::domain::rejection::Rejection;
use crate::domain::stream::StreamId;
use crate::value::id::{OrganizationId, RootKeyId};
use crate::value::permission::Permission;
use crate::value::position::Version;
use crate::value::text::Name;
use crate::value::time::Timestamp;
use crate::value::token::{Digest, TokenHint};

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
