//! The verification index: what verification and authentication decide from. It lives in memory and is exact:
//! the ledger's writer applies each record to it, through [`VerificationObserver`], before it answers the
//! command. A verification that starts after the answer therefore decides from the new state.
//!
//! A decision takes one lookup by digest, in a map whose readers never wait for the writer. The entry holds
//! everything that decides, except for what one event changes for many keys: whether the organization and the
//! API are still active, and a partner's portfolio. Entries point to those, so one event stops all keys of an
//! organization or of a client. An entry is replaced as a whole, never changed in place: a reader sees a key
//! before an event or after it, never in between.
//!
//! The index also holds the directory of organizations, portfolios, APIs, root keys, applications, portal
//! sessions and webhooks. It knows which commands Keyledger itself has to issue: the expiry of keys whose
//! time has come, and the deletion of keys whose organization or client is gone.
//!
//! A restart loads the last snapshot ([`VerificationIndex::save_snapshot_with`],
//! [`VerificationIndex::load_snapshot`]) and replays the log from there.
//! [`VerificationIndex::differs_from_replay`] compares a running index with the log.

mod apply;
mod comparison;
mod difference;
mod directory;
mod erasure;
mod observer;
mod portal_sessions;
mod question;
mod token_map;
mod verified_key;
mod writer_state;

mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use keyledger_engine::domain::application::Application;
use keyledger_engine::domain::organization::Organization;
use keyledger_engine::domain::portfolio::ClientLink;
use keyledger_engine::domain::resource_api::Api;
use keyledger_engine::domain::root_key::RootKey;
use keyledger_engine::domain::webhook::Webhook;
use keyledger_engine::ledger::UserOf;
use keyledger_engine::value::id::{
    ApiId, ApplicationId, ClientLinkId, EventId, KeyId, OrganizationId, RootKeyId, WebhookId,
};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{Digest, PresentedToken};
use tokio::sync::watch;

pub use apply::NotApplicable;
pub use comparison::ComparisonError;
pub use observer::VerificationObserver;
pub use question::{Code, Question, Verdict};
pub use snapshot::format::{MAC_PURPOSE, Snapshot, SnapshotError};
pub use snapshot::saving::temporary_of;
pub use verified_key::VerifiedKey;
pub use writer_state::KeyCounts;

use comparison::Part;
use directory::Directory;
use portal_sessions::PortalSessions;
use token_map::{DigestKey, DigestMap, TokenMap};
use verified_key::KeyGroup;
use writer_state::{KeyPlace, WriterState};

/// Links read in one locked access to the directory.
const CLIENTS_AT_A_TIME: usize = 1_024;

/// See the [module](self). All methods take `&self`; share it as an `Arc`.
pub struct VerificationIndex {
    /// Stored after all changes of the record.
    position: AtomicU64,
    is_poisoned: AtomicBool,
    /// Counts events that may end a caller's authentication. Increased after the change and before the
    /// command is answered.
    authentication_epoch: AtomicU64,
    /// Counts erasures of personal text. Increased before the erasure is answered.
    erasures: AtomicU64,
    tokens: TokenMap,
    root_tokens: DigestMap<32, RootToken>,
    /// Tokens of revoked root keys, which are refused and recognized.
    revoked_root_tokens: DigestMap<32, RootKeyId>,
    organizations: Directory<OrganizationId, Organization>,
    apis: Directory<ApiId, Api>,
    client_links: Directory<ClientLinkId, ClientLink>,
    root_keys: Directory<RootKeyId, RootKey>,
    applications: Directory<ApplicationId, Application>,
    webhooks: Directory<WebhookId, Webhook>,
    /// Increased after each change of a webhook.
    webhook_changes: watch::Sender<u64>,
    portal_sessions: PortalSessions,
    positions: watch::Sender<Position>,
    poison: OnceLock<String>,
    /// The keys that records are applied to, if not all: records of other keys are passed over.
    part: Option<Part>,
    writer: Mutex<WriterState>,
}

/// The root key behind a token.
struct RootToken {
    root_key: Arc<RootKey>,
    organization: Option<Arc<KeyGroup>>,
}

impl Default for VerificationIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl VerificationIndex {
    /// Creates the index of an empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::with_tokens(TokenMap::new())
    }

    fn with_tokens(tokens: TokenMap) -> Self {
        Self {
            position: AtomicU64::new(0),
            is_poisoned: AtomicBool::new(false),
            authentication_epoch: AtomicU64::new(0),
            erasures: AtomicU64::new(0),
            tokens,
            root_tokens: DigestMap::default(),
            revoked_root_tokens: DigestMap::default(),
            organizations: Directory::new(),
            apis: Directory::new(),
            client_links: Directory::new(),
            root_keys: Directory::new(),
            applications: Directory::new(),
            webhooks: Directory::new(),
            webhook_changes: watch::Sender::new(0),
            portal_sessions: PortalSessions::new(),
            positions: watch::Sender::new(Position::START),
            poison: OnceLock::new(),
            part: None,
            writer: Mutex::default(),
        }
    }

    /// Position of the last record applied.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::new(self.position.load(Ordering::Acquire))
    }

    /// Subscribes to [`VerificationIndex::position`].
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.positions.subscribe()
    }

    /// Verifies a token at `now` and passes the verdict to `f`. The lookup neither allocates nor waits.
    ///
    /// In a [poisoned](Self::poisoned) index every well-formed token is [`Code::NotFound`].
    pub fn verify<R>(
        &self,
        token: &str,
        question: &Question<'_>,
        now: Timestamp,
        f: impl FnOnce(Verdict<'_>) -> R,
    ) -> R {
        // Read before the lookup, so that the lookup finds a state at least as new.
        let position = self.position();
        let Ok(presented) = PresentedToken::parse(token) else {
            return f(Verdict::without_key(Code::Malformed, position));
        };
        if self.is_poisoned.load(Ordering::Acquire) {
            return f(Verdict::without_key(Code::NotFound, position));
        }
        let guard = self.tokens.guard();
        let found = self.tokens.get(&presented.digest(), &guard);
        match found.and_then(|token| token.accepted_at(now)) {
            Some(key) => {
                let code = question.judge(key, now);
                f(Verdict { code, key: Some(key), client_id: question.client_of(key, code), position })
            }
            None => f(Verdict::without_key(Code::NotFound, position)),
        }
    }

    /// Returns the root key with this token. Returns `None` when the token is unknown or malformed, when the
    /// root key is revoked or bound to a deleted organization, and always in a [poisoned](Self::poisoned)
    /// index.
    #[must_use]
    pub fn authenticate_root_key(&self, token: &str) -> Option<Arc<RootKey>> {
        let digest = PresentedToken::parse_root(token).ok()?.digest();
        if self.is_poisoned.load(Ordering::Acquire) {
            return None;
        }
        let tokens = self.root_tokens.pin();
        let found = tokens.get(&DigestKey::new(&digest))?;
        let is_active = found.organization.as_ref().is_none_or(|organization| !organization.is_stopped());
        is_active.then(|| Arc::clone(&found.root_key))
    }

    /// Returns the root key that has this token, revoked or not.
    #[must_use]
    pub fn find_root_key(&self, token: &str) -> Option<Arc<RootKey>> {
        let digest = DigestKey::new(&PresentedToken::parse_root(token).ok()?.digest());
        if let Some(found) = self.root_tokens.pin().get(&digest) {
            return Some(Arc::clone(&found.root_key));
        }
        let id = *self.revoked_root_tokens.pin().get(&digest)?;
        self.root_keys.get(&id)
    }

    /// Changes with every event that may end a caller's authentication. An answer of
    /// [`authenticate_root_key`](Self::authenticate_root_key) or
    /// [`active_application`](Self::active_application) stays valid as long as the epoch equals the one read
    /// before asking.
    #[must_use]
    pub fn authentication_epoch(&self) -> u64 {
        self.authentication_epoch.load(Ordering::Acquire)
    }

    /// Returns the application with this id if it may act. Returns `None` when it is unknown, deleted or
    /// bound to a deleted organization, and always in a [poisoned](Self::poisoned) index.
    #[must_use]
    pub fn active_application(&self, id: ApplicationId) -> Option<Arc<Application>> {
        if self.is_poisoned.load(Ordering::Acquire) {
            return None;
        }
        let application = self.applications.get(&id).filter(|it| it.deleted_at.is_none())?;
        let is_active = application.organization_id.as_ref().is_none_or(|id| self.is_active(id));
        is_active.then_some(application)
    }

    /// Returns the root key with this id if it may act; see [`active_application`](Self::active_application).
    #[must_use]
    pub fn active_root_key(&self, id: RootKeyId) -> Option<Arc<RootKey>> {
        if self.is_poisoned.load(Ordering::Acquire) {
            return None;
        }
        let root_key = self.root_keys.get(&id).filter(|it| it.revoked_at.is_none())?;
        let is_active = root_key.organization_id.as_ref().is_none_or(|id| self.is_active(id));
        is_active.then_some(root_key)
    }

    /// Whether an organization exists and is not deleted.
    fn is_active(&self, id: &OrganizationId) -> bool {
        self.organizations.get(id).is_some_and(|organization| organization.deleted_at.is_none())
    }

    /// Starts a new [epoch](Self::authentication_epoch), after something outside the log has invalidated
    /// credentials.
    pub fn end_authentication_epoch(&self) {
        self.authentication_epoch.fetch_add(1, Ordering::Release);
    }

    /// Returns the key that has, or once had, this token. This includes deleted keys and tokens replaced by
    /// rotation.
    #[must_use]
    pub fn find_token(&self, token: &str) -> Option<KeyId> {
        self.tokens.find(&PresentedToken::parse(token).ok()?.digest())
    }

    /// Returns the organization with this id, deleted or not.
    #[must_use]
    pub fn organization(&self, id: &OrganizationId) -> Option<Arc<Organization>> {
        self.organizations.get(id)
    }

    /// Returns the link between a partner and a client, ended or not.
    #[must_use]
    pub fn client_link(&self, id: &ClientLinkId) -> Option<Arc<ClientLink>> {
        self.client_links.get(id)
    }

    /// Returns a page of a partner's current portfolio, at most `limit` clients after the id `after`, in id
    /// order, and the total number of clients. Deleted clients are excluded.
    #[must_use]
    pub fn clients(
        &self,
        partner_id: &OrganizationId,
        after: Option<&OrganizationId>,
        limit: usize,
    ) -> (Vec<Arc<ClientLink>>, usize) {
        let is_there = |link: &ClientLink| {
            let client = self.organizations.get(&link.id.client_id);
            link.is_linked() && client.is_some_and(|client| client.deleted_at.is_none())
        };
        let (mut found, mut total) = (Vec::new(), 0);
        let first = ClientLinkId { partner_id: partner_id.clone(), client_id: OrganizationId::first() };
        let mut start = Bound::Included(first);
        loop {
            let links = self.client_links.page_from(start.as_ref(), CLIENTS_AT_A_TIME);
            let Some(last) = links.last() else { return (found, total) };
            start = Bound::Excluded(last.id.clone());
            for link in links {
                if link.id.partner_id != *partner_id {
                    return (found, total);
                }
                if is_there(&link) {
                    total += 1;
                    if found.len() < limit && after.is_none_or(|after| link.id.client_id > *after) {
                        found.push(link);
                    }
                }
            }
        }
    }

    /// Returns the API with this id, deleted or not.
    #[must_use]
    pub fn api(&self, id: ApiId) -> Option<Arc<Api>> {
        self.apis.get(&id)
    }

    /// Returns the root key with this id, revoked or not.
    #[must_use]
    pub fn root_key(&self, id: RootKeyId) -> Option<Arc<RootKey>> {
        self.root_keys.get(&id)
    }

    /// Returns the application with this id, deleted or not.
    #[must_use]
    pub fn application(&self, id: ApplicationId) -> Option<Arc<Application>> {
        self.applications.get(&id)
    }

    /// Returns the webhook with this id, deleted or not.
    #[must_use]
    pub fn webhook(&self, id: WebhookId) -> Option<Arc<Webhook>> {
        self.webhooks.get(&id)
    }

    /// Returns at most `limit` webhooks after the id `after`, in id order, including deleted ones.
    #[must_use]
    pub fn webhooks(&self, after: Option<&WebhookId>, limit: usize) -> Vec<Arc<Webhook>> {
        self.webhooks.page(after, limit)
    }

    /// Subscribes to changes of webhooks. The value is a counter.
    #[must_use]
    pub fn watch_webhooks(&self) -> watch::Receiver<u64> {
        self.webhook_changes.subscribe()
    }

    /// Returns at most `limit` organizations after the id `after`, in id order, including deleted ones.
    #[must_use]
    pub fn organizations(&self, after: Option<&OrganizationId>, limit: usize) -> Vec<Arc<Organization>> {
        self.organizations.page(after, limit)
    }

    /// Returns at most `limit` APIs after the id `after`, in id order, including deleted ones.
    #[must_use]
    pub fn apis(&self, after: Option<&ApiId>, limit: usize) -> Vec<Arc<Api>> {
        self.apis.page(after, limit)
    }

    /// Returns at most `limit` root keys after the id `after`, in id order, including revoked ones.
    #[must_use]
    pub fn root_keys(&self, after: Option<&RootKeyId>, limit: usize) -> Vec<Arc<RootKey>> {
        self.root_keys.page(after, limit)
    }

    /// Returns at most `limit` applications after the id `after`, in id order, including deleted ones.
    #[must_use]
    pub fn applications(&self, after: Option<&ApplicationId>, limit: usize) -> Vec<Arc<Application>> {
        self.applications.page(after, limit)
    }

    /// Number of organizations, including deleted ones.
    #[must_use]
    pub fn organization_count(&self) -> usize {
        self.organizations.len()
    }

    /// Number of APIs, including deleted ones.
    #[must_use]
    pub fn api_count(&self) -> usize {
        self.apis.len()
    }

    /// Number of root keys, including revoked ones.
    #[must_use]
    pub fn root_key_count(&self) -> usize {
        self.root_keys.len()
    }

    /// Number of keys in each status.
    #[must_use]
    pub fn key_counts(&self) -> KeyCounts {
        self.writer().counts
    }

    /// The number of keys that are not deleted, by organization. Walks over all keys.
    #[must_use]
    pub fn keys_by_organization(&self) -> HashMap<OrganizationId, u64> {
        let writer = self.writer();
        let mut by_group = vec![0_u64; writer.groups.len()];
        for place in writer.keys.keys() {
            if let Some(count) = by_group.get_mut(place.group as usize) {
                *count += 1;
            }
        }
        let mut counts = HashMap::new();
        for (group, count) in writer.groups.iter().zip(by_group).filter(|(_, count)| *count > 0) {
            *counts.entry(group.id.clone()).or_default() += count;
        }
        counts
    }

    /// Ids of all keys that are not deleted.
    #[must_use]
    pub fn living_keys(&self) -> HashSet<KeyId> {
        self.writer().keys.keys().map(KeyPlace::key_id).collect()
    }

    /// Time of the earliest expiry that `KeyExpired` has not recorded yet.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.writer().next_expiry()
    }

    /// Returns at most `limit` keys that have expired at `now` and have no `KeyExpired` yet, in order of
    /// expiry. Includes revoked keys, excludes deleted ones.
    #[must_use]
    pub fn due_expiries(&self, now: Timestamp, limit: usize) -> Vec<KeyId> {
        self.writer().due_expiries(now, limit)
    }

    /// Returns at most `limit` keys whose expiry is not recorded yet, comes after the position `after` in the
    /// order of expiry and id, and is not later than `through`. Includes revoked keys, excludes deleted ones.
    #[must_use]
    pub fn expiries_between(
        &self,
        after: (Timestamp, KeyId),
        through: Timestamp,
        limit: usize,
    ) -> Vec<(Timestamp, KeyId)> {
        self.writer().expiries_between(after, through, limit)
    }

    /// Returns at most `limit` keys that are not deleted although their basis has ended, each with the event
    /// that ended it: the deletion of their organization or client, or the unlinking of the client.
    #[must_use]
    pub fn orphaned_keys(&self, limit: usize) -> Vec<(KeyId, EventId)> {
        self.writer().orphaned_keys(limit)
    }

    /// Number of active keys of a user at `now`. Counted only for organizations whose policy limits it; 0 for
    /// others.
    #[must_use]
    pub fn keys_of_user(&self, user: &UserOf, now: Timestamp) -> u32 {
        let writer = self.writer();
        let guard = self.tokens.guard();
        let is_active = |digest: &&Digest| {
            let key = self.tokens.get(digest, &guard).map(token_map::Token::key);
            key.is_some_and(|key| !key.is_revoked() && !key.is_expired(now))
        };
        writer.digests_of_user(user).filter(is_active).count() as u32
    }

    /// Returns why the index has stopped: a committed record did not apply, or it was
    /// [found](Self::stop) to differ from the log. A stopped index applies no records and accepts no token,
    /// because it no longer knows which ones were revoked. Callers should answer that the service is
    /// unavailable.
    #[must_use]
    pub fn poisoned(&self) -> Option<String> {
        self.poison.get().cloned()
    }

    /// Stops the index for good, because it does not say what the log says.
    pub fn stop(&self, reason: String) {
        self.poison.get_or_init(|| reason);
        self.is_poisoned.store(true, Ordering::Release);
        self.end_authentication_epoch();
    }

    fn writer(&self) -> MutexGuard<'_, WriterState> {
        // State that a panic left half applied is detected where records are applied.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
