//! All aggregates of one kind, by id and in id order.

use std::collections::BTreeSet;
use std::hash::Hash;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use papaya::HashMap;

/// Aggregates of one kind. A lookup never waits.
pub(super) struct Directory<K, V> {
    by_id: HashMap<K, Arc<V>>,
    /// Written only for new and removed aggregates; read for pages.
    order: RwLock<BTreeSet<K>>,
}

impl<K: Clone + Ord + Hash, V> Directory<K, V> {
    pub(super) fn new() -> Self {
        Self { by_id: HashMap::new(), order: RwLock::default() }
    }

    pub(super) fn get(&self, id: &K) -> Option<Arc<V>> {
        self.by_id.pin().get(id).cloned()
    }

    pub(super) fn insert(&self, id: K, aggregate: V) {
        let is_new = self.by_id.pin().insert(id.clone(), Arc::new(aggregate)).is_none();
        if is_new {
            self.order.write().unwrap_or_else(PoisonError::into_inner).insert(id);
        }
    }

    pub(super) fn remove(&self, id: &K) -> Option<Arc<V>> {
        let removed = self.by_id.pin().remove(id).cloned()?;
        self.order.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        Some(removed)
    }

    pub(super) fn ids(&self) -> BTreeSet<K> {
        self.order.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn len(&self) -> usize {
        self.order.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Returns at most `limit` aggregates after the id `after`, in id order.
    pub(super) fn page(&self, after: Option<&K>, limit: usize) -> Vec<Arc<V>> {
        self.page_from(after.map_or(Bound::Unbounded, Bound::Excluded), limit)
    }

    /// Returns at most `limit` aggregates from `start` on, in id order.
    pub(super) fn page_from(&self, start: Bound<&K>, limit: usize) -> Vec<Arc<V>> {
        let ids: Vec<K> = {
            let order = self.order.read().unwrap_or_else(PoisonError::into_inner);
            order.range((start, Bound::Unbounded)).take(limit).cloned().collect()
        };
        let by_id = self.by_id.pin();
        ids.iter().filter_map(|id| by_id.get(id).cloned()).collect()
    }
}
