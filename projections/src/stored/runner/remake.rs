//! When a projection whose file failed is made anew.

use std::time::{Duration, Instant};

/// How long after the failure.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// It is twice as long after each time that making it anew fails too, up to this.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The next attempt, after a failure that may have passed by itself then, such as a full disk's.
pub(super) struct Remake {
    at: Instant,
    waited: Duration,
}

impl Remake {
    pub(super) fn first() -> Self {
        Self::after(WAIT_MIN)
    }

    /// The one after this, which failed.
    pub(super) fn next(&self) -> Self {
        Self::after((self.waited * 2).min(WAIT_MAX))
    }

    fn after(waited: Duration) -> Self {
        Self { at: Instant::now() + waited, waited }
    }

    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.at
    }
}
