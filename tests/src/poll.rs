//! Waiting for a condition, with a bound.

use std::thread;
use std::time::{Duration, Instant};

/// Calls `probe` every few milliseconds until it returns `Some`.
///
/// # Panics
/// When `limit` passes first. The message names `what`.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen within {limit:?}");
        thread::sleep(Duration::from_millis(3));
    }
}
