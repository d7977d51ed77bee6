//! State that only the writer needs: where each key's token is, and which commands Keyledger itself has to
//! issue. Verification never reads it.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use keyledger_engine::domain::key::{KeyStatus, PreviousToken};
use keyledger_engine::domain::portal_session::Minter;
use keyledger_engine::ledger::UserOf;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApiId, ClientLinkId, EventId, KeyId, OrganizationId, PortalSessionId};
use keyledger_engine::value::text::{Scope, UserId};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::Digest;

use super::snapshot::walk::Walk;
use super::verified_key::{ApiRef, KeyGroup, ScopeList, VerifiedKey};

/// The pool of scope lists is swept at this size, and again each time it has doubled.
const SCOPE_LISTS_SWEEP_MIN: usize = 1_024;

/// Number of keys in each status as recorded in the log: an expired key counts as expired once `KeyExpired`
/// is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyCounts {
    /// Not revoked, expired or deleted.
    pub active: u64,
    /// Revoked, but neither expired nor deleted.
    pub revoked: u64,
    /// Expired, but not deleted.
    pub expired: u64,
    /// Deleted.
    pub deleted: u64,
}

impl KeyCounts {
    fn of(&mut self, status: KeyStatus) -> &mut u64 {
        match status {
            KeyStatus::Active => &mut self.active,
            KeyStatus::Revoked => &mut self.revoked,
            KeyStatus::Expired => &mut self.expired,
            KeyStatus::Deleted => &mut self.deleted,
        }
    }

    /// Counts a key that moves from one status to another.
    pub(super) fn record(&mut self, before: Option<KeyStatus>, after: KeyStatus) {
        if let Some(before) = before {
            let count = self.of(before);
            *count = count.saturating_sub(1);
        }
        *self.of(after) += 1;
    }
}

/// A key's group and id. The id is stored as bytes, because a number would pad 20 bytes to 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyPlace {
    pub(super) group: u32,
    key: [u8; 16],
}

impl KeyPlace {
    pub(super) const fn new(group: u32, key: KeyId) -> Self {
        Self { group, key: key.to_u128().to_be_bytes() }
    }

    /// The greatest place of a group.
    pub(super) const fn last_of(group: u32) -> Self {
        Self { group, key: [u8::MAX; 16] }
    }

    pub(super) const fn key_id(&self) -> KeyId {
        KeyId::from_u128(u128::from_be_bytes(self.key))
    }
}

/// A scope list, looked up by its scopes.
#[derive(PartialEq, Eq, Hash)]
struct PooledScopes(ScopeList);

impl Borrow<[Scope]> for PooledScopes {
    fn borrow(&self) -> &[Scope] {
        &self.0
    }
}

#[derive(Default)]
pub(super) struct WriterState {
    /// Every key that is not deleted, by group, with the digest of its current token.
    pub(super) keys: BTreeMap<KeyPlace, Digest>,
    /// Tokens replaced by rotation that were still accepted at the last rotation.
    pub(super) previous_tokens: HashMap<KeyId, Vec<PreviousToken>>,
    /// All groups of keys, indexed by number.
    pub(super) groups: Vec<Arc<KeyGroup>>,
    pub(super) organizations: HashMap<OrganizationId, Arc<KeyGroup>>,
    /// Groups of linked clients.
    pub(super) links: BTreeMap<ClientLinkId, Arc<KeyGroup>>,
    /// The same links, client first.
    partners: BTreeSet<(OrganizationId, OrganizationId)>,
    /// Groups of keys that partners made for clients. All other keys are in the group of their organization.
    client_keys: HashMap<KeyId, u32>,
    pub(super) apis: HashMap<ApiId, Arc<ApiRef>>,
    pub(super) counts: KeyCounts,
    /// Number of the next key.
    next_number: u32,
    /// Keys of each user, for organizations whose policy limits them.
    user_keys: HashMap<u32, HashMap<(Environment, UserId), BTreeSet<KeyId>>>,
    /// The event that stopped each stopped group.
    pub(super) stopped_by: HashMap<u32, EventId>,
    /// Stopped groups that still have keys.
    groups_to_clear: BTreeSet<u32>,
    /// Expiries that `KeyExpired` has not recorded yet, in milliseconds.
    expiries: BTreeSet<(i64, [u8; 16])>,
    /// Expiries of portal sessions, in milliseconds.
    pub(super) portal_session_ends: BTreeSet<(i64, PortalSessionId)>,
    /// Portal sessions by the credential that minted them.
    pub(super) minted_sessions: BTreeSet<(Minter, PortalSessionId)>,
    scope_lists: HashSet<PooledScopes>,
    scope_lists_sweep_at: usize,
    /// The walk over all keys in progress, if any.
    pub(super) walk: Option<Walk>,
}

impl WriterState {
    /// Returns the group of the organization with this id, which need not exist yet: a root key may be bound
    /// to it before.
    pub(super) fn organization_group(&mut self, id: &OrganizationId) -> Option<Arc<KeyGroup>> {
        if let Some(organization) = self.organizations.get(id) {
            return Some(Arc::clone(organization));
        }
        let organization = self.add_group(id.clone(), None)?;
        self.organizations.insert(id.clone(), Arc::clone(&organization));
        Some(organization)
    }

    /// Adds a group; `None` when the numbers are used up.
    pub(super) fn add_group(
        &mut self,
        id: OrganizationId,
        client_id: Option<OrganizationId>,
    ) -> Option<Arc<KeyGroup>> {
        let group = Arc::new(KeyGroup::new(id, client_id, u32::try_from(self.groups.len()).ok()?));
        self.groups.push(Arc::clone(&group));
        Some(group)
    }

    /// Adds a client to a partner's portfolio.
    pub(super) fn link(&mut self, id: ClientLinkId, partner: &KeyGroup, group: Arc<KeyGroup>) {
        partner.link(id.client_id.clone(), Arc::clone(&group));
        self.partners.insert((id.client_id.clone(), id.partner_id.clone()));
        self.links.insert(id, group);
    }

    /// Removes a client from a partner's portfolio and stops the keys made for it.
    pub(super) fn unlink(&mut self, id: &ClientLinkId, event: EventId) -> Option<()> {
        let group = self.links.remove(id)?;
        self.partners.remove(&(id.client_id.clone(), id.partner_id.clone()));
        self.organizations.get(&id.partner_id)?.unlink(&id.client_id);
        self.stop_group(&group, event);
        Some(())
    }

    /// Returns a number that no key has had.
    pub(super) fn next_key_number(&mut self) -> Option<u32> {
        let number = self.next_number;
        self.next_number = number.checked_add(1)?;
        Some(number)
    }

    /// Returns these scopes as a list shared by all keys that carry the same ones.
    pub(super) fn scope_list(&mut self, scopes: &[Scope]) -> ScopeList {
        if let Some(list) = self.scope_lists.get(scopes) {
            return Arc::clone(&list.0);
        }
        if self.scope_lists.len() >= self.scope_lists_sweep_at.max(SCOPE_LISTS_SWEEP_MIN) {
            self.scope_lists.retain(|list| Arc::strong_count(&list.0) > 1);
            self.scope_lists_sweep_at = self.scope_lists.len() * 2;
        }
        let list: ScopeList = Arc::new(scopes.into());
        self.scope_lists.insert(PooledScopes(Arc::clone(&list)));
        list
    }

    /// Returns all scope lists that keys may carry.
    pub(super) fn all_scope_lists(&self) -> Vec<ScopeList> {
        self.scope_lists.iter().map(|list| Arc::clone(&list.0)).collect()
    }

    /// Stops all keys of an organization: its own, those made for its clients, and those that partners made
    /// for it.
    pub(super) fn organization_deleted(&mut self, organization: &KeyGroup, event: EventId) {
        self.stop_group(organization, event);
        let first = ClientLinkId { partner_id: organization.id.clone(), client_id: OrganizationId::first() };
        let clients = self.links.range(first..).take_while(|(link, _)| link.partner_id == organization.id);
        let first = (organization.id.clone(), OrganizationId::first());
        let partners =
            self.partners.range(first..).take_while(|(client_id, _)| *client_id == organization.id);
        let partners = partners.filter_map(|(client_id, partner_id)| {
            let (partner_id, client_id) = (partner_id.clone(), client_id.clone());
            self.links.get(&ClientLinkId { partner_id, client_id })
        });
        let groups: Vec<_> = clients.map(|(_, group)| group).chain(partners).cloned().collect();
        for group in groups {
            self.stop_group(&group, event);
        }
    }

    /// Stops all keys of a group, unless an earlier event did.
    pub(super) fn stop_group(&mut self, group: &KeyGroup, event: EventId) {
        group.stop();
        self.stopped_by.entry(group.number).or_insert(event);
        if self.has_keys(group.number) {
            self.groups_to_clear.insert(group.number);
        }
    }

    /// Updates counts and expiries after a key changed from `before` to `after`.
    pub(super) fn key_changed(&mut self, before: Option<&VerifiedKey>, after: &VerifiedKey) {
        self.counts.record(before.map(VerifiedKey::recorded_status), after.recorded_status());
        self.replace_expiry(before, Some(after));
    }

    pub(super) fn key_created(&mut self, key: &VerifiedKey, digest: Digest) {
        let number = key.group().number;
        self.keys.insert(KeyPlace::new(number, key.key_id()), digest);
        if self.stopped_by.contains_key(&number) {
            self.groups_to_clear.insert(number);
        }
        self.key_added(key);
    }

    /// Registers a key whose place is already set.
    pub(super) fn key_added(&mut self, key: &VerifiedKey) {
        if key.client_id().is_some() {
            self.client_keys.insert(key.key_id(), key.group().number);
        }
        self.add_to_user(key);
        self.key_changed(None, key);
    }

    /// Starts or stops counting the keys of an organization's users; `keys` are all keys of the organization.
    pub(super) fn count_user_keys<'a>(
        &mut self,
        group: u32,
        wanted: bool,
        keys: impl IntoIterator<Item = &'a VerifiedKey>,
    ) {
        if !wanted {
            self.user_keys.remove(&group);
            return;
        }
        self.user_keys.insert(group, HashMap::new());
        for key in keys {
            self.add_to_user(key);
        }
    }

    /// Whether the keys of a group's users are counted.
    pub(super) fn counts_user_keys(&self, group: u32) -> bool {
        self.user_keys.contains_key(&group)
    }

    fn add_to_user(&mut self, key: &VerifiedKey) {
        let Some(users) = self.user_keys.get_mut(&key.group().number) else { return };
        if let Some(user_id) = key.user_id() {
            users.entry((key.environment(), user_id.clone())).or_default().insert(key.key_id());
        }
    }

    pub(super) fn remove_from_user(&mut self, key: &VerifiedKey) {
        let Some(users) = self.user_keys.get_mut(&key.group().number) else { return };
        let Some(user_id) = key.user_id() else { return };
        let user = (key.environment(), user_id.clone());
        if let Some(keys) = users.get_mut(&user) {
            keys.remove(&key.key_id());
            if keys.is_empty() {
                users.remove(&user);
            }
        }
    }

    /// Digests of the current tokens of a user's keys.
    pub(super) fn digests_of_user(&self, user: &UserOf) -> impl Iterator<Item = &Digest> {
        let group = self.organizations.get(&user.organization_id).map(|group| group.number);
        let users = group.and_then(|group| self.user_keys.get(&group));
        let keys = users.and_then(|users| users.get(&(user.environment, user.user_id.clone())));
        let places = keys.into_iter().flatten().zip(group.into_iter().cycle());
        places.filter_map(|(key, group)| self.keys.get(&KeyPlace::new(group, *key)))
    }

    /// Digests of the current tokens of a group's keys.
    pub(super) fn digests_of(&self, group: u32) -> Vec<Digest> {
        let first = KeyPlace { group, key: [0; 16] };
        let last = KeyPlace::last_of(group);
        self.keys.range(first..=last).map(|(_, digest)| *digest).collect()
    }

    pub(super) fn key_deleted(&mut self, key: &VerifiedKey) {
        let number = key.group().number;
        self.keys.remove(&KeyPlace::new(number, key.key_id()));
        self.client_keys.remove(&key.key_id());
        self.remove_from_user(key);
        self.previous_tokens.remove(&key.key_id());
        if !self.has_keys(number) {
            self.groups_to_clear.remove(&number);
        }
        self.counts.record(Some(key.recorded_status()), KeyStatus::Deleted);
        self.replace_expiry(Some(key), None);
    }

    fn replace_expiry(&mut self, before: Option<&VerifiedKey>, after: Option<&VerifiedKey>) {
        let entry = |key: &VerifiedKey| {
            key.pending_expiry().map(|end| (end.millis(), key.key_id().to_u128().to_be_bytes()))
        };
        let (before, after) = (before.and_then(entry), after.and_then(entry));
        if before != after {
            if let Some(entry) = before {
                self.expiries.remove(&entry);
            }
            self.expiries.extend(after);
        }
    }

    /// Returns the place of a key that is not deleted, if it belongs to the organization.
    pub(super) fn place_of(&self, organization_id: &OrganizationId, id: KeyId) -> Option<KeyPlace> {
        let group = match self.client_keys.get(&id) {
            Some(number) => self.groups.get(*number as usize)?,
            None => self.organizations.get(organization_id)?,
        };
        (group.id == *organization_id).then(|| KeyPlace::new(group.number, id))
    }

    fn keys_of(&self, group: u32) -> impl Iterator<Item = KeyId> {
        let first = KeyPlace { group, key: [0; 16] };
        let last = KeyPlace::last_of(group);
        self.keys.range(first..=last).map(|(place, _)| place.key_id())
    }

    fn has_keys(&self, group: u32) -> bool {
        self.keys_of(group).next().is_some()
    }

    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        self.expiries.first().map(|(millis, _)| Timestamp::from_millis(*millis))
    }

    pub(super) fn expiries_between(
        &self,
        after: (Timestamp, KeyId),
        through: Timestamp,
        limit: usize,
    ) -> Vec<(Timestamp, KeyId)> {
        let after = (after.0.millis(), after.1.to_u128().to_be_bytes());
        if after.0 > through.millis() {
            return Vec::new();
        }
        self.expiries
            .range((Bound::Excluded(after), Bound::Included((through.millis(), [u8::MAX; 16]))))
            .take(limit)
            .map(|(millis, key)| {
                (Timestamp::from_millis(*millis), KeyId::from_u128(u128::from_be_bytes(*key)))
            })
            .collect()
    }

    pub(super) fn due_expiries(&self, now: Timestamp, limit: usize) -> Vec<KeyId> {
        self.expiries
            .iter()
            .take_while(|(millis, _)| *millis <= now.millis())
            .take(limit)
            .map(|(_, key)| KeyId::from_u128(u128::from_be_bytes(*key)))
            .collect()
    }

    pub(super) fn orphaned_keys(&self, limit: usize) -> Vec<(KeyId, EventId)> {
        self.groups_to_clear
            .iter()
            .filter_map(|number| self.stopped_by.get(number).map(|event| (*number, *event)))
            .flat_map(|(number, event)| self.keys_of(number).map(move |key_id| (key_id, event)))
            .take(limit)
            .collect()
    }
}
