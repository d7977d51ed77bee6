//! When a failed projection is rebuilt.

use std::time::{Duration, Instant};

/// Delay of the first rebuild after a failure.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// The delay doubles after each failed rebuild, up to this.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The next rebuild after a failure that may be temporary, such as a full disk.
pub(super) struct RebuildRetry {
    at: Instant,
    waited: Duration,
}

impl RebuildRetry {
    pub(super) fn first() -> Self {
        Self::after(WAIT_MIN)
    }

    /// The attempt after this one failed.
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
