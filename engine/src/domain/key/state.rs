//! A key as its events have left it.

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

/// Where a key stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyStatus {
    /// Verification may answer VALID.
    Active,
    /// Stopped; can be reactivated.
    Revoked,
    /// Its time came; final but for deletion.
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

/// A token that was replaced by rotation and is accepted for a while longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousToken {
    /// Its digest.
    pub digest: Digest,
    /// Accepted before this instant.
    pub valid_until: Timestamp,
}

/// A key. It serializes for projections, whose version number changes with its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// The organization it belongs to.
    pub organization_id: OrganizationId,
    /// Whom it is for.
    pub owner: Owner,
    /// The user it belongs to, for a user's key.
    pub user_id: Option<UserId>,
    /// What people call it.
    pub name: Option<Name>,
    /// What it is for.
    pub description: Option<Description>,
    /// What the caller attached.
    pub metadata: Option<Metadata>,
    /// Where it is valid.
    pub environment: Environment,
    /// The API it is for, if one.
    pub api_id: Option<ApiId>,
    /// What it may do there.
    pub scopes: Vec<Scope>,
    /// Digest of its current token.
    pub digest: Digest,
    /// What of the current token may be shown.
    pub hint: TokenHint,
    /// Tokens that rotation replaced and that were still accepted at the last rotation.
    pub previous_tokens: Vec<PreviousToken>,
    /// When it ends, if it does.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, unless it was reactivated since.
    pub revoked_at: Option<Timestamp>,
    /// Whether `KeyExpired` is in the log.
    pub expiry_recorded: bool,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// When it was issued.
    pub created_at: Timestamp,
    /// The position of the event that issued it.
    pub created_position: Position,
    /// The id of the actor who issued it.
    pub created_by: Arc<str>,
    /// How many events it has.
    pub version: Version,
}

impl Key {
    /// Where it stands at `now`. Expiry is judged by the clock, not by whether `KeyExpired` has been recorded.
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

    /// The key after `record`, which must be of its stream; `key` is `None` before the first. `None` comes back when the
    /// record does not fit: a stream that does not begin with `KeyCreated`, or another aggregate's event.
    #[must_use]
    pub fn apply(key: Option<Self>, record: &Record) -> Option<Self> {
        let Some(mut key) = key else { return Self::created(record) };
        key.change(record).then_some(key)
    }

    /// Brings the key to what it is after `record`, which must be of its stream. Says `false`, and leaves it as it is, when
    /// the record does not fit: it begins a stream, or is another aggregate's.
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
