//! Maps by key id that use the id's own randomness as the hash.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use keyledger_engine::value::id::KeyId;

/// A map by key id. The service draws ids from a generator seeded by the operating system, so callers cannot
/// choose colliding ids.
pub(super) type IdMap<V> = HashMap<KeyId, V, BuildHasherDefault<IdHasher>>;

/// Uses the bits of an id as they are: the lower 80 are random.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write_u128(&mut self, bits: u128) {
        self.0 = (bits ^ (bits >> 64)) as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
