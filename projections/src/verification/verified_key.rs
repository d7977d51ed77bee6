//! What the index holds of a key. Everything that a decision looks at stands in one piece of memory of 64 bytes; what
//! many keys share is held once, and texts that are only shown stand behind a pointer of their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use keyledger_engine::domain::key::{KeyStatus, OwnerKind};
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApiId, KeyId, OrganizationId};
use keyledger_engine::value::text::{Metadata, Name, Scope, UserId};
use keyledger_engine::value::time::Timestamp;
use papaya::HashMap;
use serde::{Deserialize, Serialize};

/// Stands for no expiry: the last instant there is.
const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);

/// Keys that one event stops together: those of an organization, or those that a partner made for one client while it was
/// in the portfolio. A client that is linked again begins a new group, so that nothing brings back the keys of the old one.
#[derive(Debug)]
pub(super) struct KeyGroup {
    /// The organization that the keys belong to: the partner, for those made for a client.
    pub(super) id: OrganizationId,
    /// The client that the keys are for.
    pub(super) client_id: Option<OrganizationId>,
    /// Names the group inside this index, in 4 bytes.
    pub(super) number: u32,
    stopped: AtomicBool,
    /// The clients of a partner, as far as they are linked.
    portfolio: OnceLock<HashMap<OrganizationId, Arc<KeyGroup>>>,
}

impl KeyGroup {
    pub(super) const fn new(id: OrganizationId, client_id: Option<OrganizationId>, number: u32) -> Self {
        Self { id, client_id, number, stopped: AtomicBool::new(false), portfolio: OnceLock::new() }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Stops every key of it at once.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Whether an organization is linked to this one as a client, and is still there.
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

/// An API as its keys see it.
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

    /// Stops every key of it at once.
    pub(super) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
    }
}

/// Scopes that keys carry together. The box keeps the pointer in each key at 8 bytes.
pub(super) type ScopeList = Arc<Box<[Scope]>>;

/// What is shown of a key and never decides anything.
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

/// A key as verification shows it.
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

/// Its parts, for making one.
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

    /// Its id.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Names the key inside this index, from 0 on without gaps and never used again; another index numbers otherwise.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The organization it belongs to.
    #[must_use]
    pub fn organization_id(&self) -> &OrganizationId {
        &self.group.id
    }

    /// Whom it is for.
    #[must_use]
    pub const fn owner(&self) -> OwnerKind {
        self.owner
    }

    /// The client organization that it is for, for a client's key.
    #[must_use]
    pub fn client_id(&self) -> Option<&OrganizationId> {
        self.group.client_id.as_ref()
    }

    /// The user it belongs to, for a user's key.
    #[must_use]
    pub fn user_id(&self) -> Option<&UserId> {
        self.text.as_ref()?.user_id.as_ref()
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> Option<&Name> {
        self.text.as_ref()?.name.as_ref()
    }

    /// Where it is valid.
    #[must_use]
    pub const fn environment(&self) -> Environment {
        self.environment
    }

    /// The API it is for, if one.
    #[must_use]
    pub fn api_id(&self) -> Option<ApiId> {
        self.api.as_ref().map(|api| api.id)
    }

    /// The id of the API it is for, as text that is ready to be shown.
    #[must_use]
    pub fn api_id_text(&self) -> Option<&str> {
        self.api.as_ref().map(|api| api.id_text())
    }

    /// What it may do, in the order given when that was last set.
    #[must_use]
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// What callers attached to it: a JSON object as text.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.text.as_ref()?.metadata.as_ref()
    }

    /// When it ends, if it does.
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

    /// Its status as the log alone tells it: an end that no `KeyExpired` records does not count.
    pub(super) const fn recorded_status(&self) -> KeyStatus {
        if self.expiry_recorded {
            KeyStatus::Expired
        } else if self.revoked {
            KeyStatus::Revoked
        } else {
            KeyStatus::Active
        }
    }

    /// The end that `KeyExpired` has still to record.
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

// One more field that does not fit costs every key of every installation 16 bytes.
const _: () = assert!(size_of::<VerifiedKey>() == 64);
