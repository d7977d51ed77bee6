//! The state of a key, as its events leave it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::key::Owner;
use crate::domain::record::Record;
use crate::domain::stream::StreamId;
use crate::value::environment::Environment;
use crate::value::id::{ApiId, KeyId, OrganizationId};
use crate::value::position::{Position, Version};
use crate::value::text::{Description, Metadata, Name, Scope, UserId};
use crate::value::time::Timestamp;
use crate::value::token::{Digest, TokenHint};

/// The status of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyStatus {
    /// Verification may answer VALID.
    Active,
    /// Stopped until it is reactivated.
    Revoked,
    /// Past its expiry. It can be edited and deleted, nothing else.
    Expired,
    /// Final.
    Deleted,
}

impl KeyStatus {
    const TABLE: [(Self, u8, &'static str); 4] = [
        (Self::Active, 0, "active"),
        (Self::Revoked, 1, "revoked"),
        (Self::Expired, 2, "expired"),
        (Self::Deleted, 3, "deleted"),
    ];
}

crate::value::stored_enum::stored_enum!(KeyStatus, "key status");

/// A token that a rotation replaced and that stays valid for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousToken {
    /// Its digest.
    pub digest: Digest,
    /// The token is valid before this instant.
    pub valid_until: Timestamp,
}

/// A key. Projections store it in serialized form, so a change of its fields needs a new version of each of
/// them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// The organization that it belongs to.
    pub organization_id: OrganizationId,
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
    /// The API that it is for, if any.
    pub api_id: Option<ApiId>,
    /// Its scopes.
    pub scopes: Vec<Scope>,
    /// The digest of its current token.
    pub digest: Digest,
    /// The parts of its current token that may be shown.
    pub hint: TokenHint,
    /// The tokens that rotations replaced and that were still valid at the last rotation.
    pub previous_tokens: Vec<PreviousToken>,
    /// The time at which it expires; none for never.
    pub expires_at: Option<Timestamp>,
    /// The time of its revocation; none if it was reactivated since.
    pub revoked_at: Option<Timestamp>,
    /// Whether `KeyExpired` is in the log.
    pub expiry_recorded: bool,
    /// The time of its deletion.
    pub deleted_at: Option<Timestamp>,
    /// The time at which it was issued.
    pub created_at: Timestamp,
    /// The position of the event that issued it.
    pub created_position: Position,
    /// The id of the actor that issued it.
    pub created_by: Arc<str>,
    /// The number of its events.
    pub version: Version,
}

impl Key {
    /// The status at `now`. Expiry is judged by the clock, not by whether `KeyExpired` has been recorded.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> KeyStatus {
        if self.deleted_at.is_some() {
            KeyStatus::Deleted
        } else if self.expiry_recorded || self.expires_at.is_some_and(|end| end <= now) {
            KeyStatus::Expired
        } else if self.revoked_at.is_some() {
            KeyStatus::Revoked
        } else {
            KeyStatus::Active
        }
    }

    /// Returns the key after `record`, which must be of its stream; `key` is `None` before the first record.
    /// Returns `None` when the record does not fit: the first one is not `KeyCreated`, or it is another
    /// aggregate's.
    #[must_use]
    pub fn apply(key: Option<Self>, record: &Record) -> Option<Self> {
        let Some(mut key) = key else { return Self::created(record) };
        key.change(record).then_some(key)
    }

    /// Applies `record`, which must be of the key's stream. Returns `false` and changes nothing when the
    /// record does not fit: it is the first of a stream, or another aggregate's.
    #[must_use]
    pub fn change(&mut self, record: &Record) -> bool {
        if !matches!(record.stream, StreamId::Key(_)) {
            return false;
        }
        match &record.event {
            Event::KeyRenamed((), personal) => self.name.clone_from(&personal.name),
            Event::KeyDescriptionChanged((), personal) => self.description.clone_from(&personal.description),
            Event::KeyMetadataChanged((), personal) => self.metadata.clone_from(&personal.metadata),
            Event::KeyScopesChanged(facts, ()) => self.scopes.clone_from(&facts.scopes),
            Event::KeyExpiryChanged(facts, ()) => self.expires_at = facts.expires_at,
            Event::KeyRevoked(_, _) => self.revoked_at = Some(record.time),
            Event::KeyReactivated((), ()) => self.revoked_at = None,
            Event::KeyRotated(facts, ()) => {
                self.previous_tokens =
                    facts.previous_tokens_after(&self.previous_tokens, self.digest, record.time);
                self.digest = facts.digest;
                self.hint = facts.hint.clone();
            }
            Event::KeyExpired(_, ()) => self.expiry_recorded = true,
            Event::KeyDeleted((), ()) => self.deleted_at = Some(record.time),
            _ => return false,
        }
        self.version = record.version;
        true
    }

    fn created(record: &Record) -> Option<Self> {
        let StreamId::Key(id) = record.stream else { return None };
        let Event::KeyCreated(facts, personal) = &record.event else { return None };
        Some(Self {
            id,
            organization_id: record.organization_id.clone()?,
            owner: facts.owner.clone(),
            user_id: personal.user_id.clone(),
            name: personal.name.clone(),
            description: personal.description.clone(),
            metadata: personal.metadata.clone(),
            environment: facts.environment,
            api_id: facts.api_id,
            scopes: facts.scopes.clone(),
            digest: facts.digest,
            hint: facts.hint.clone(),
            previous_tokens: Vec::new(),
            expires_at: facts.expires_at,
            revoked_at: None,
            expiry_recorded: false,
            deleted_at: None,
            created_at: record.time,
            created_position: record.position,
            created_by: record.actor.id.clone(),
            version: record.version,
        })
    }
}
