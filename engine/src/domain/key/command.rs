//! The commands to a key.

use crate::domain::key::{Owner, RevocationReason};
use crate::value::environment::Environment;
use crate::value::id::{ApiId, OrganizationId};
use crate::value::text::{Description, Metadata, Name, Note, Scope, UserId};
use crate::value::time::Timestamp;
use crate::value::token::{Digest, TokenHint};

/// A command to a key. Its texts and ids are well-formed; [`decide`](crate::domain::key::decide) decides
/// whether the change is allowed.
#[derive(Debug, Clone)]
pub enum KeyCommand {
    /// Creates the key.
    Create(Box<CreateKey>),
    /// Changes the fields that are `Some`; an inner `None` clears a field.
    Edit(Box<EditKey>),
    /// Revokes the key. It can be reactivated.
    Revoke {
        /// The reason.
        reason: RevocationReason,
        /// The reason in the caller's words.
        note: Option<Note>,
    },
    /// Reactivates a revoked key.
    Reactivate,
    /// Replaces the key's token by a new one.
    Rotate {
        /// The digest of the new token.
        digest: Digest,
        /// The parts of the new token that may be shown.
        hint: TokenHint,
        /// The number of milliseconds for which the current token stays valid, though never past the key's
        /// expiry.
        overlap_millis: i64,
    },
    /// Deletes the key. This is final.
    Delete,
    /// Records that the key has expired, if it has.
    RecordExpiry,
}

/// The fields of a new key.
#[derive(Debug, Clone)]
pub struct CreateKey {
    /// The organization that it belongs to.
    pub organization_id: OrganizationId,
    /// The API that it is for, if any.
    pub api_id: Option<ApiId>,
    /// Its owner.
    pub owner: Owner,
    /// The user that it belongs to, for a user's key.
    pub user_id: Option<UserId>,
    /// Its name.
    pub name: Option<Name>,
    /// Its description.
    pub description: Option<Description>,
    /// The caller's metadata.
    pub metadata: Option<Metadata>,
    /// The only environment in which it is valid.
    pub environment: Environment,
    /// Its scopes.
    pub scopes: Vec<Scope>,
    /// The time at which it expires; none for never.
    pub expires_at: Option<Timestamp>,
    /// The digest of its token.
    pub digest: Digest,
    /// The parts of its token that may be shown.
    pub hint: TokenHint,
}

/// Changes to a key's fields. `None` keeps a field; `Some(None)` clears it.
#[derive(Debug, Clone, Default)]
pub struct EditKey {
    /// New name.
    pub name: Option<Option<Name>>,
    /// New description.
    pub description: Option<Option<Description>>,
    /// New metadata.
    pub metadata: Option<Option<Metadata>>,
    /// New scopes.
    pub scopes: Option<Vec<Scope>>,
    /// New expiry.
    pub expires_at: Option<Option<Timestamp>>,
}
