//! What was gathered and is not yet in the rows of the file.

use std::collections::HashMap;

use keyledger_engine::id::KeyId;

use super::Last;
use super::counts::Counts;

/// One key's usage since it was last folded into the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pending {
    /// By hour; there are one or two.
    pub(super) hours: Vec<(u32, Counts)>,
    pub(super) last: Last,
}

impl Pending {
    pub(super) fn add(&mut self, hour: u32, counts: &Counts, last: Last) {
        match self.hours.iter_mut().find(|(at, _)| *at == hour) {
            Some((_, sum)) => sum.merge(counts),
            None => self.hours.push((hour, *counts)),
        }
        self.last.advance(last);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (hour, counts) in &other.hours {
            self.add(*hour, counts, other.last);
        }
    }

    pub(super) fn total(&self) -> Counts {
        let mut total = Counts::default();
        for (_, counts) in &self.hours {
            total.merge(counts);
        }
        total
    }
}

/// Usage of many keys.
pub(super) type PendingKeys = HashMap<KeyId, Pending>;

/// Adds all of `more` to `keys`.
pub(super) fn merge_all(keys: &mut PendingKeys, more: impl IntoIterator<Item = (KeyId, Pending)>) {
    for (id, pending) in more {
        keys.entry(id).or_default().merge(&pending);
    }
}
