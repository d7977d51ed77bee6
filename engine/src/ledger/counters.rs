//! The writer's counters.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of the writer since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Commits.
    pub groups: AtomicU64,
    /// Events appended.
    pub events: AtomicU64,
    /// Commands that a rule rejected.
    pub rejections: AtomicU64,
    /// Commits with an unknown outcome.
    pub unknown_outcomes: AtomicU64,
    /// Nanoseconds spent in the log's append.
    pub append_nanos: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}
