//! How much each holder holds at a time: connections of an address, readers of a caller.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts of what is held, by holder. A holder that holds nothing takes no memory. Cheap to clone.
pub(crate) struct Holders<K>(Arc<Mutex<HashMap<K, u32>>>);

impl<K> Clone for Holders<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Holders<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// One held thing. Dropping it gives it back.
pub(crate) struct Hold<K: Eq + Hash> {
    holders: Holders<K>,
    key: K,
}

impl<K: Eq + Hash + Clone> Holders<K> {
    /// Counts one more for a holder. Returns none for a holder that has `max` already.
    pub(crate) fn take(&self, key: K, max: u32) -> Option<Hold<K>> {
        let mut counts = self.counts();
        match counts.get_mut(&key) {
            Some(count) if *count >= max => return None,
            Some(count) => *count += 1,
            None if max == 0 => return None,
            None => drop(counts.insert(key.clone(), 1)),
        }
        drop(counts);
        Some(Hold { holders: self.clone(), key })
    }
}

impl<K> Holders<K> {
    fn counts(&self) -> MutexGuard<'_, HashMap<K, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Hold<K> {
    fn drop(&mut self) {
        let mut counts = self.holders.counts();
        let left = counts.get_mut(&self.key).map_or(0, |count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == 0 {
            counts.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holder_has_a_bound_of_its_own() {
        let holders = Holders::default();
        let first = holders.take("a", 2).unwrap();
        let second = holders.take("a", 2).unwrap();
        assert!(holders.take("a", 2).is_none());
        let other = holders.take("b", 2).unwrap();
        drop(first);
        let third = holders.take("a", 2).unwrap();
        assert!(holders.take("a", 2).is_none() && holders.take("c", 0).is_none());
        drop((second, third, other));
        assert!(holders.counts().is_empty(), "holders of nothing take no memory");
    }
}
