//! The buckets of many subjects, in bounded memory.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, PoisonError};

use super::bucket;
use super::quota::Quota;

/// Locks, so that callers rarely wait for one another.
const SHARDS: usize = 64;
/// The most buckets behind one lock.
const SHARD_LEN_MAX: usize = 1_024;
/// How often full buckets are looked for behind one lock, in nanoseconds.
const SWEEP_INTERVAL: u64 = 1_000_000_000;

/// Buckets by the hash of their subject, at most 65,536 at a time. A bucket that is full again is the same as
/// none, so it is dropped when there is no room. While all are in use, new subjects share one bucket for each
/// lock: they are limited together rather than not at all.
pub(crate) struct Buckets([Mutex<Shard>; SHARDS]);

#[derive(Default)]
struct Shard {
    /// When each bucket is full.
    full_at: HashMap<u64, u64, BuildHasherDefault<Identity>>,
    /// When the shared bucket is full.
    shared: u64,
    swept_at: u64,
}

impl Default for Buckets {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Buckets {
    /// Takes `cost` tokens from the bucket of a subject, given by a hash of it that strangers cannot guess.
    ///
    /// # Errors
    /// The nanoseconds until the bucket has the tokens.
    pub(crate) fn take(&self, subject: u64, now: u64, quota: Quota, cost: u64) -> Result<(), u64> {
        let Some(shard) = self.0.get(subject as usize % SHARDS) else { return Ok(()) };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = shard.bucket(subject, now);
        *full_at = bucket::take(*full_at, now, quota, cost)?;
        Ok(())
    }

    /// Whether the bucket of a subject has a token.
    ///
    /// # Errors
    /// The nanoseconds until it has one.
    pub(crate) fn has(&self, subject: u64, now: u64, quota: Quota) -> Result<(), u64> {
        let Some(shard) = self.0.get(subject as usize % SHARDS) else { return Ok(()) };
        let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = match shard.full_at.get(&subject) {
            Some(full_at) => *full_at,
            None if shard.full_at.len() < SHARD_LEN_MAX => return Ok(()),
            None => shard.shared,
        };
        bucket::take(full_at, now, quota, 1).map(drop)
    }

    /// The number of buckets that are kept.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.lock().unwrap().full_at.len()).sum()
    }
}

impl Shard {
    fn bucket(&mut self, subject: u64, now: u64) -> &mut u64 {
        let has_room = self.full_at.len() < SHARD_LEN_MAX || self.full_at.contains_key(&subject);
        if !has_room && now.saturating_sub(self.swept_at) >= SWEEP_INTERVAL {
            self.swept_at = now;
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        if has_room || self.full_at.len() < SHARD_LEN_MAX {
            self.full_at.entry(subject).or_default()
        } else {
            &mut self.shared
        }
    }
}

/// The keys are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        // The lowest bits have chosen the lock.
        self.0 = hash.rotate_right(SHARDS.trailing_zeros());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn quota() -> Quota {
        "2/1s".parse().unwrap()
    }

    #[test]
    fn each_subject_has_a_bucket() {
        let buckets = Buckets::default();
        for subject in [1, 2, 65, u64::MAX] {
            assert!(buckets.take(subject, 0, quota(), 2).is_ok());
            assert_eq!(buckets.take(subject, 0, quota(), 1), Err(SECOND / 2));
            assert_eq!(buckets.has(subject, 0, quota()), Err(SECOND / 2));
            assert!((0..5).all(|_| buckets.has(subject, SECOND / 2, quota()).is_ok()), "it takes nothing");
            assert!(buckets.take(subject, SECOND / 2, quota(), 1).is_ok());
        }
    }

    #[test]
    fn memory_is_bounded_and_nobody_passes_for_it() {
        let buckets = Buckets::default();
        let mut passed = 0;
        for subject in 0..300_000_u64 {
            passed += u64::from(buckets.take(subject, SECOND, quota(), 2).is_ok());
        }
        let max = (SHARDS * SHARD_LEN_MAX) as u64;
        assert_eq!(buckets.len() as u64, max);
        assert_eq!(passed, max + SHARDS as u64, "the others have one bucket for each lock");
        // Those who had a bucket keep it.
        assert!(buckets.take(0, SECOND, quota(), 1).is_err());
        // Once they are full again, there is room.
        assert!(buckets.take(400_000, SECOND * 3, quota(), 2).is_ok());
        assert!(buckets.take(400_000, SECOND * 3, quota(), 1).is_err());
        assert!(buckets.len() < SHARDS * SHARD_LEN_MAX);
    }
}
