//! The index entry of a key. Everything that a decision reads is in one 64-byte block. What many keys share
//! is stored once; texts that are only shown are behind a pointer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use keyledger_engine::domain::key::{KeyStatus, OwnerKind};
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApiId, KeyId, OrganizationId};
use keyledger_engine::value::text::{Metadata, Name, Scope, UserId};
use keyledger_engine::value::time::Timestamp;
use papaya::HashMap;
use serde::{Deserialize, Serialize};

/// Represents "no expiry": the last possible instant.
const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);

/// Keys that one event stops together: those of an organization, or those that a partner made for one client
/// while it was in the portfolio. Linking a client again starts a new group, so the old keys stay stopped.
#[derive(Debug)]
pub(super) struct KeyGroup {
    /// Organization that the keys belong to; for keys made for a client, the partner.
    pub(super) id: OrganizationId,
    /// Client that the keys are for.
    pub(super) client_id: Option<OrganizationId>,
    /// Identifies the group inside this index, in 4 bytes.
    pub(super) number: u32,
    stopped: AtomicBool,
    /// Linked clients of a partner.
    portfolio: OnceLock<HashMap<OrganizationId, Arc<KeyGroup>>>,
}

impl KeyGroup {
    pub(super) const fn new(id: OrganizationId, client_id: Option<OrganizationId>, number: u32) -> Self {
        Self { id, client_id, number, stopped: AtomicBool::new(false), portfolio: OnceLock::new() }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Stops every key of the group at once.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Whether an organization is linked to this one as a client and is not deleted.
    pub(super) fn has_client(&self, client_id: &str) -> bool {
        let Some(portfolio) = self.portfolio.get() else { return false };
        portfolio.pin().get(client_id).is_some_and(|group| !group.is_stopped())
    }

    pub(super) fn link(&self, client_id: OrganizationId, group: Arc<Self>) {
        self.portfolio.get_or_init(HashMap::new).pin().insert(client_id, group);
    }

    pub(super) fn unlink(&self, client_id: &OrganizationId) {
        if let Some(portfolio) = self.portfolio.get() {
            portfolio.pin().remove(client_id);
        }
    }
}

/// The part of an API that its keys need.
#[derive(Debug)]
pub(super) struct ApiRef {
    pub(super) id: ApiId,
    /// The id as questions spell it, so that comparing needs no formatting.
    text: Box<str>,
    deleted: AtomicBool,
}

impl ApiRef {
    pub(super) fn new(id: ApiId, deleted: bool) -> Self {
        Self { id, text: id.to_string().into(), deleted: AtomicBool::new(deleted) }
    }

    pub(super) fn id_text(&self) -> &str {
        &self.text
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Stops every key of the API at once.
    pub(super) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
    }
}

/// A set of scopes shared by keys. The box keeps the pointer in each key at 8 bytes.
pub(super) type ScopeList = Arc<Box<[Scope]>>;

/// Texts of a key that are shown and never decide anything.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct KeyText {
    pub(super) name: Option<Name>,
    pub(super) user_id: Option<UserId>,
    pub(super) metadata: Option<Metadata>,
}

impl KeyText {
    const fn is_empty(&self) -> bool {
        self.name.is_none() && self.user_id.is_none() && self.metadata.is_none()
    }
}

/// A key as verification sees it.
#[derive(Debug, Clone)]
pub struct VerifiedKey {
    key_id: KeyId,
    group: Arc<KeyGroup>,
    api: Option<Arc<ApiRef>>,
    scopes: ScopeList,
    text: Option<Arc<KeyText>>,
    expires_at: Timestamp,
    number: u32,
    owner: OwnerKind,
    environment: Environment,
    revoked: bool,
    expiry_recorded: bool,
}

/// Fields to construct a [`VerifiedKey`].
pub(super) struct VerifiedKeyParts {
    pub(super) key_id: KeyId,
    pub(super) number: u32,
    pub(super) group: Arc<KeyGroup>,
    pub(super) api: Option<Arc<ApiRef>>,
    pub(super) scopes: ScopeList,
    pub(super) text: KeyText,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) owner: OwnerKind,
    pub(super) environment: Environment,
    pub(super) revoked: bool,
    pub(super) expiry_recorded: bool,
}

impl VerifiedKey {
    pub(super) fn new(parts: VerifiedKeyParts) -> Self {
        Self {
            key_id: parts.key_id,
            number: parts.number,
            group: parts.group,
            api: parts.api,
            scopes: parts.scopes,
            text: (!parts.text.is_empty()).then(|| Arc::new(parts.text)),
            expires_at: parts.expires_at.unwrap_or(NEVER),
            owner: parts.owner,
            environment: parts.environment,
            revoked: parts.revoked,
            expiry_recorded: parts.expiry_recorded,
        }
    }

    /// Id of the key.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Identifies the key inside this index: dense from 0, never reused. Another index numbers differently.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Organization that the key belongs to.
    #[must_use]
    pub fn organization_id(&self) -> &OrganizationId {
        &self.group.id
    }

    /// Kind of owner: organization, user, partner or client.
    #[must_use]
    pub const fn owner(&self) -> OwnerKind {
        self.owner
    }

    /// Client organization that a client's key is for.
    #[must_use]
    pub fn client_id(&self) -> Option<&OrganizationId> {
        self.group.client_id.as_ref()
    }

    /// User that a user's key belongs to.
    #[must_use]
    pub fn user_id(&self) -> Option<&UserId> {
        self.text.as_ref()?.user_id.as_ref()
    }

    /// Display name.
    #[must_use]
    pub fn name(&self) -> Option<&Name> {
        self.text.as_ref()?.name.as_ref()
    }

    /// The one environment that the key is valid in.
    #[must_use]
    pub const fn environment(&self) -> Environment {
        self.environment
    }

    /// API that the key is for, if any.
    #[must_use]
    pub fn api_id(&self) -> Option<ApiId> {
        self.api.as_ref().map(|api| api.id)
    }

    /// Id of the API that the key is for, preformatted.
    #[must_use]
    pub fn api_id_text(&self) -> Option<&str> {
        self.api.as_ref().map(|api| api.id_text())
    }

    /// Scopes of the key, in the order in which they were last set.
    #[must_use]
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// Metadata attached by clients: a JSON object as text.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.text.as_ref()?.metadata.as_ref()
    }

    /// Expiry, if the key has one.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        (self.expires_at != NEVER).then_some(self.expires_at)
    }

    pub(super) fn group(&self) -> &KeyGroup {
        &self.group
    }

    pub(super) fn api(&self) -> Option<&ApiRef> {
        self.api.as_deref()
    }

    pub(super) fn scope_list(&self) -> &ScopeList {
        &self.scopes
    }

    pub(super) fn text(&self) -> Option<&KeyText> {
        self.text.as_deref()
    }

    pub(super) const fn is_revoked(&self) -> bool {
        self.revoked
    }

    pub(super) const fn is_expiry_recorded(&self) -> bool {
        self.expiry_recorded
    }

    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.expiry_recorded || (self.expires_at <= now && self.expires_at != NEVER)
    }

    /// Status as recorded in the log: an expiry without a `KeyExpired` does not count.
    pub(super) const fn recorded_status(&self) -> KeyStatus {
        if self.expiry_recorded {
            KeyStatus::Expired
        } else if self.revoked {
            KeyStatus::Revoked
        } else {
            KeyStatus::Active
        }
    }

    /// Expiry that `KeyExpired` has not recorded yet.
    pub(super) fn pending_expiry(&self) -> Option<Timestamp> {
        self.expires_at().filter(|_| !self.expiry_recorded)
    }

    pub(super) fn edit_text(&mut self, edit: impl FnOnce(&mut KeyText)) {
        let mut text = self.text.as_deref().cloned().unwrap_or_default();
        edit(&mut text);
        self.text = (!text.is_empty()).then(|| Arc::new(text));
    }

    pub(super) fn set_scopes(&mut self, scopes: ScopeList) {
        self.scopes = scopes;
    }

    pub(super) fn set_expires_at(&mut self, expires_at: Option<Timestamp>) {
        self.expires_at = expires_at.unwrap_or(NEVER);
    }

    pub(super) const fn set_revoked(&mut self, revoked: bool) {
        self.revoked = revoked;
    }

    pub(super) const fn record_expiry(&mut self) {
        self.expiry_recorded = true;
    }
}

// A field that does not fit costs 16 more bytes for every key.
const _: () = assert!(size_of::<VerifiedKey>() == 64);
