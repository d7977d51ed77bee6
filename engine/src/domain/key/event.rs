//! The events of a key: facts, and the personal part apart from them. The order of fields is the order of
//! bytes (docs/format.md). To add, remove or move a field, introduce a new schema number.

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
    /// The digest of its token.
    pub digest: Digest,
    /// The parts of its token that may be shown.
    pub hint: TokenHint,
    /// The only environment in which it is valid.
    pub environment: Environment,
    /// Its owner.
    pub owner: Owner,
    /// The API that it is for, if any.
    pub api_id: Option<ApiId>,
    /// Its scopes.
    pub scopes: Vec<Scope>,
    /// The time at which it expires; none for never.
    pub expires_at: Option<Timestamp>,
}

/// The personal part of [`KeyCreated`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCreatedPersonal {
    /// The user that it belongs to, for a user's key.
    pub user_id: Option<UserId>,
    /// Its name.
    pub name: Option<Name>,
    /// Its description.
    pub description: Option<Description>,
    /// The caller's metadata.
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

/// A key's scopes were changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyScopesChanged {
    /// All its scopes from now on.
    pub scopes: Vec<Scope>,
}

/// A key's expiry was changed or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyExpiryChanged {
    /// The time at which it expires; none for never.
    pub expires_at: Option<Timestamp>,
}

/// The reason for a revocation, after RFC 5280 §5.3.1. The numbers are stored and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum RevocationReason {
    /// No reason was given.
    #[default]
    Unspecified,
    /// The token is, or may be, in the wrong hands.
    KeyCompromise,
    /// Another key replaces it.
    Superseded,
    /// Its owner's affiliation has changed.
    AffiliationChanged,
    /// Its owner has lost the privilege that it grants.
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

/// A key was revoked; it can be reactivated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRevoked {
    /// The reason.
    pub reason: RevocationReason,
}

/// The personal part of [`KeyRevoked`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRevokedPersonal {
    /// The reason in the caller's words.
    pub note: Option<Note>,
}

/// A key's token was replaced by a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRotated {
    /// The digest of the new token.
    pub digest: Digest,
    /// The parts of the new token that may be shown.
    pub hint: TokenHint,
    /// The time until which previous tokens stay valid, unless an earlier rotation set an earlier time. They
    /// are invalid at once if it is not after the event's own time.
    pub previous_valid_until: Timestamp,
}

impl KeyRotated {
    /// The previous tokens that stay valid after this rotation at `time`, given those `before` it and the
    /// digest of the token that it replaces. No previous token outlives the overlap of the newest rotation,
    /// so after a rotation without overlap only the new token is valid.
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

/// A key expired. Verification does not wait for this event: it judges expiry by the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyExpired {
    /// The time at which it expired.
    pub expires_at: Timestamp,
}
