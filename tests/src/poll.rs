//! Waiting for something to become true, with a bound.

use std::thread;
use std::time::{Duration, Instant};

/// Asks `probe` again and again until it yields something, at most for `limit`.
///
/// # Panics
/// When `limit` passes first; the message names `what`.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for {what}");
        thread::sleep(Duration::from_millis(3));
    }
}
