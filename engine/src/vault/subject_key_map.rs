//! A map by the names of subjects' keys.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::value::subject::SubjectKeyId;

/// Uses the ids' own randomness as their hash. No client can choose an id in the map, so none can provoke
/// collisions.
pub(super) type SubjectKeyMap<V> = HashMap<SubjectKeyId, V, BuildHasherDefault<SubjectKeyHasher>>;

#[derive(Default)]
pub(super) struct SubjectKeyHasher(u64);

impl Hasher for SubjectKeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.as_chunks().0 {
            self.0 ^= u64::from_le_bytes(*word);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
