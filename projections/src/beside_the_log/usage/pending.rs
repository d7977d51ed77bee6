//! Usage that was gathered and is not in the rows of the file yet.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use keyledger_engine::value::id::KeyId;

use super::Last;
use super::counts::Counts;

/// Usage of one key since it was last folded into the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pending {
    /// By hour; usually one or two.
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

    /// Returns this usage as if it had just been gathered.
    pub(super) fn to_gathered(&self, id: KeyId) -> impl Iterator<Item = Gathered> {
        self.hours.iter().map(move |(hour, counts)| Gathered {
            id,
            hour: *hour,
            counts: *counts,
            last: self.last,
        })
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

/// A map by key id.
pub(super) type KeyMap<T> = HashMap<KeyId, T, BuildHasherDefault<KeyIdHasher>>;

/// Pending usage of many keys.
pub(super) type PendingKeys = KeyMap<Pending>;

/// Uses the last 8 bytes of an id as the hash: they are random and drawn by the service.
#[derive(Default, Clone, Copy)]
pub(super) struct KeyIdHasher(u64);

impl Hasher for KeyIdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = id as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Usage of one key in one hour, gathered at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gathered {
    pub(super) id: KeyId,
    pub(super) hour: u32,
    pub(super) counts: Counts,
    pub(super) last: Last,
}

/// Adds gathered usage to `keys`.
pub(super) fn add_all<'a>(keys: &mut PendingKeys, gathered: impl IntoIterator<Item = &'a Gathered>) {
    for Gathered { id, hour, counts, last } in gathered {
        keys.entry(*id).or_default().add(*hour, counts, *last);
    }
}
