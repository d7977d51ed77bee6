//! What can happen to a key: facts, and apart from them what is personal. The order of fields is the order of bytes
//! (docs/format.md): a field is never added, removed or moved without a new schema number.

use serde::{Deserialize, Serialize};

use crate::domain::key::{Owner, PreviousToken};
use crate::value::environment::Environment;
use crate::value::id::ApiId;
use crate::value::text::{Description, Metadata, Name, Note, Scope, UserId};
use crate::value::time::Timestamp;
use crate::value::token::{Digest, TokenHint};

/// A key was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCreated {
    /// Digest of its token.
    pub digest: Digest,
    /// What of the token may be shown.
    pub hint: TokenHint,
    /// Where it is valid.
    pub environment: Environment,
    /// Whom it is for.
    pub owner: Owner,
    /// The API it is for, if one.
    pub api_id: Option<ApiId>,
    /// What it may do there.
    pub scopes: Vec<Scope>,
    /// When it ends, if it does.
    pub expires_at: Option<Timestamp>,
}

/// The personal part of [`KeyCreated`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCreatedPersonal {
    /// The user it belongs to, for a user's key.
    pub user_id: Option<UserId>,
    /// What people call it.
    pub name: Option<Name>,
    /// What it is for.
    pub description: Option<Description>,
    /// What the caller attached.
    pub metadata: Option<Metadata>,
}

/// The personal part of `KeyRenamed`, which has no facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRenamedPersonal {
    /// The new name; none when it was cleared.
    pub name: Option<Name>,
}

/// The personal part of `KeyDescriptionChanged`, which has no facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDescriptionChangedPersonal {
    /// The new description; none when it was cleared.
    pub description: Option<Description>,
}

/// The personal part of `KeyMetadataChanged`, which has no facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyMetadataChangedPersonal {
    /// The new metadata; none when it was cleared.
    pub metadata: Option<Metadata>,
}

/// A key may do other things than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyScopesChanged {
    /// All it may do from now on.
    pub scopes: Vec<Scope>,
}

/// A key ends at another time than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyExpiryChanged {
    /// When it ends; none for never.
    pub expires_at: Option<Timestamp>,
}

/// Why a key was revoked, after RFC 5280 §5.3.1. The numbers are stored and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum RevocationReason {
    /// Not said.
    #[default]
    Unspecified,
    /// The token is, or may be, in wrong hands.
    KeyCompromise,
    /// Another key took its place.
    Superseded,
    /// Its owner is no longer what they were.
    AffiliationChanged,
    /// Its owner may no longer do what it allowed.
    PrivilegeWithdrawn,
}

impl RevocationReason {
    const TABLE: [(Self, u8, &'static str); 5] = [
        (Self::Unspecified, 0, "unspecified"),
        (Self::KeyCompromise, 1, "key_compromise"),
        (Self::Superseded, 2, "superseded"),
        (Self::AffiliationChanged, 3, "affiliation_changed"),
        (Self::PrivilegeWithdrawn, 4, "privilege_withdrawn"),
    ];
}

crate::value::stored_enum::stored_enum!(RevocationReason, "revocation reason");

/// A key was stopped; it can be reactivated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRevoked {
    /// Why.
    pub reason: RevocationReason,
}

/// The personal part of [`KeyRevoked`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRevokedPersonal {
    /// Why, in words.
    pub note: Option<Note>,
}

/// A key got a new token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRotated {
    /// Digest of the new token.
    pub digest: Digest,
    /// What of the new token may be shown.
    pub hint: TokenHint,
    /// Until when tokens before it are accepted beside the new one, unless an earlier rotation set an earlier end; at
    /// the event's own time, or before it, for not at all.
    pub previous_valid_until: Timestamp,
}

impl KeyRotated {
    /// The replaced tokens that are accepted for a while after this rotation at `time`, given those `before` it and the
    /// digest of the token that it replaces. No earlier token outlives the overlap of the newest rotation, so that a
    /// rotation without overlap leaves the new token alone.
    #[must_use]
    pub fn previous_tokens_after(
        &self,
        before: &[PreviousToken],
        replaced: Digest,
        time: Timestamp,
    ) -> Vec<PreviousToken> {
        let until = self.previous_valid_until;
        before
            .iter()
            .map(|token| PreviousToken { digest: token.digest, valid_until: token.valid_until.min(until) })
            .chain([PreviousToken { digest: replaced, valid_until: until }])
            .filter(|token| token.valid_until > time)
            .collect()
    }
}

/// A key's time came. Verification does not wait for this event; it is the record of the fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyExpired {
    /// The time that came.
    pub expires_at: Timestamp,
}
