//! Records what writers and readers of keys observe, and checks that no reader saw a state older than an
//! acknowledged write.
//!
//! Every key has one writer, which revokes and reactivates it in turn, so the writes of a key are sequential.
//! A read may return the state after the last write that was acknowledged before the read started, or after
//! any write that overlaps the read. Anything else is a violation.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The system under test: a server, or an index in memory.
pub trait Target: Send {
    /// Revokes (`false`) or reactivates (`true`) a key. Returns when the write is acknowledged.
    fn switch(&mut self, key: usize, active: bool);

    /// Whether a verification of the key answers that it is valid.
    fn is_valid(&mut self, key: usize) -> bool;
}

/// An operation with its interval, in nanoseconds since the start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The index of the key.
    pub key: usize,
    /// Just before it was sent.
    pub start: u64,
    /// Just after its answer was read.
    pub end: u64,
    /// For a write, whether it reactivated the key. For a read, whether the answer was valid.
    pub active: bool,
}

/// All operations of a run. Every key was active at its start.
#[derive(Debug, Default)]
pub struct History {
    /// Writes. Those of one key are in order.
    pub writes: Vec<Call>,
    /// Reads, in any order.
    pub reads: Vec<Call>,
}

impl History {
    /// Runs one writer per key and `readers` readers for `time`, each with its own target.
    ///
    /// # Panics
    /// When a writer or reader panics.
    pub fn record<T: Target>(
        keys: usize,
        readers: usize,
        time: Duration,
        rng: &mut StdRng,
        target: impl Fn() -> T,
    ) -> Self {
        let begin = Instant::now();
        let stop = AtomicBool::new(false);
        let now = || u64::try_from(begin.elapsed().as_nanos()).expect("a run is shorter than centuries");
        let mut history = Self::default();
        thread::scope(|scope| {
            let (stop, now) = (&stop, &now);
            let writers: Vec<_> = (0..keys)
                .map(|key| {
                    let (mut target, mut rng) = (target(), StdRng::seed_from_u64(rng.random()));
                    scope.spawn(move || {
                        let (mut calls, mut active) = (Vec::new(), true);
                        while !stop.load(Ordering::Relaxed) {
                            active = !active;
                            let start = now();
                            target.switch(key, active);
                            let end = now();
                            calls.push(Call { key, start, end, active });
                            // With a pause about as long as a write, some reads fall entirely between two
                            // writes, where only one answer is allowed.
                            thread::sleep(Duration::from_nanos(rng.random_range(0..=2 * (end - start))));
                        }
                        calls
                    })
                })
                .collect();
            let readers: Vec<_> = (0..readers)
                .map(|_| {
                    let (mut target, mut rng) = (target(), StdRng::seed_from_u64(rng.random()));
                    scope.spawn(move || {
                        let mut calls = Vec::new();
                        while !stop.load(Ordering::Relaxed) {
                            let key = rng.random_range(0..keys);
                            let start = now();
                            let active = target.is_valid(key);
                            calls.push(Call { key, start, end: now(), active });
                        }
                        calls
                    })
                })
                .collect();
            thread::sleep(time);
            stop.store(true, Ordering::Relaxed);
            for writer in writers {
                history.writes.extend(writer.join().expect("a writer"));
            }
            for reader in readers {
                history.reads.extend(reader.join().expect("a reader"));
            }
        });
        history
    }

    /// The reads that returned a state older than an acknowledged write, or newer than any write sent.
    #[must_use]
    pub fn violations(&self) -> Vec<Call> {
        let keys = self.writes.iter().chain(&self.reads).map(|call| call.key + 1).max().unwrap_or(0);
        let mut writes = vec![Vec::new(); keys];
        for write in &self.writes {
            writes[write.key].push(*write);
        }
        self.reads.iter().filter(|read| !allows(&writes[read.key], read)).copied().collect()
    }

    /// The number of reads with only one allowed answer. Only these can detect a violation.
    #[must_use]
    pub fn decisive_reads(&self) -> usize {
        let flipped = |read: &Call| Call { active: !read.active, ..*read };
        let other = Self { writes: self.writes.clone(), reads: self.reads.iter().map(flipped).collect() };
        other.violations().len()
    }
}

/// Whether the answer of `read` is allowed, given all writes of its key in order.
fn allows(writes: &[Call], read: &Call) -> bool {
    let acknowledged = writes.partition_point(|write| write.end < read.start);
    let sent = writes.partition_point(|write| write.start < read.end);
    let before = acknowledged.checked_sub(1).is_none_or(|last| writes[last].active);
    before == read.active || writes[acknowledged..sent].iter().any(|write| write.active == read.active)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn call(start: u64, end: u64, active: bool) -> Call {
        Call { key: 0, start, end, active }
    }

    #[track_caller]
    fn check(read: Call, allowed: bool) {
        // Revoked during 10..20, reactivated during 30..40.
        let writes = vec![call(10, 20, false), call(30, 40, true)];
        let history = History { writes, reads: vec![read] };
        assert_eq!(history.violations().is_empty(), allowed, "{read:?}");
    }

    #[test]
    fn a_read_sees_the_last_acknowledged_write_or_one_under_way() {
        check(call(0, 5, true), true);
        check(call(0, 5, false), false);
        check(call(5, 15, true), true);
        check(call(5, 15, false), true);
        check(call(15, 25, true), true);
        check(call(21, 25, false), true);
        check(call(21, 25, true), false);
        check(call(21, 29, true), false);
        check(call(21, 31, true), true);
        check(call(41, 50, true), true);
        check(call(41, 50, false), false);
        check(call(15, 50, false), true);
    }
}
