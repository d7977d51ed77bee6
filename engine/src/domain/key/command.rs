//! What can be asked of a key.

use crate::domain::key::{Owner, RevocationReason};
use crate::value::environment::Environment;
use crate::value::id::{ApiId, OrganizationId};
use crate::value::text::{Description, Metadata, Name, Note, Scope, UserId};
use crate::value::time::Timestamp;
use crate::value::token::{Digest, TokenHint};

/// A request to change a key. Texts and ids in it are already of the right form; whether the change is allowed is
/// decided by [`decide`](crate::domain::key::decide).
#[derive(Debug, Clone)]
pub enum KeyCommand {
    /// Issue it.
    Create(Box<CreateKey>),
    /// Change what `Some` names; an inner `None` clears.
    Edit(Box<EditKey>),
    /// Stop it, for now.
    Revoke {
        /// Why.
        reason: RevocationReason,
        /// Why, in words.
        note: Option<Note>,
    },
    /// Let a revoked key work again.
    Reactivate,
    /// Give it a new token.
    Rotate {
        /// Digest of the new token.
        digest: Digest,
        /// What of the new token may be shown.
        hint: TokenHint,
        /// For how many milliseconds the present token is accepted too; never past the key's expiry.
        overlap_millis: i64,
    },
    /// Delete it, for good.
    Delete,
    /// Record that its time came, if it did.
    RecordExpiry,
}

/// What a new key is to be.
#[derive(Debug, Clone)]
pub struct CreateKey {
    /// The organization it belongs to.
    pub organization_id: OrganizationId,
    /// The API it is for, if one.
    pub api_id: Option<ApiId>,
    /// Whom it is for.
    pub owner: Owner,
    /// The user it belongs to, for a user's key.
    pub user_id: Option<UserId>,
    /// What people call it.
    pub name: Option<Name>,
    /// What it is for.
    pub description: Option<Description>,
    /// What the caller attaches.
    pub metadata: Option<Metadata>,
    /// Where it is valid.
    pub environment: Environment,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it ends, if it does.
    pub expires_at: Option<Timestamp>,
    /// Digest of its token.
    pub digest: Digest,
    /// What of the token may be shown.
    pub hint: TokenHint,
}

/// Changes to a key's description of itself. `None` leaves a field; `Some(None)` clears it.
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
