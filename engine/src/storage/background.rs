//! Threads whose work can wait for that of requests.

use std::io;
use std::thread::{Builder, JoinHandle};

/// How much nicer such a thread is than the process: on a busy processor it gets about a third of what a thread that
/// answers requests does. Enough to keep up with as many commands as the processor carries out, so that nobody waits for it long.
///
/// On two cores without a processor to spare, 3 % more keys are created in a second with it than without.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// Starts a thread that leaves the processor to those that answer requests, where there are not enough for all.
///
/// # Errors
/// When the system has no thread left.
pub fn spawn<T: Send + 'static>(
    name: impl Into<String>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.into()).spawn(move || {
        // Elsewhere it would be the whole process that gives way.
        #[cfg(target_os = "linux")]
        give_way();
        work()
    })
}

/// Has this thread give way, however much the one does that started it.
#[cfg(target_os = "linux")]
fn give_way() {
    use rustix::process::{getpid, getpriority_process, setpriority_process};
    // Asked by its id the process tells of its first thread, which is as nice as the process was started.
    if let Ok(own) = getpriority_process(Some(getpid())) {
        let _ = setpriority_process(None, own.saturating_add(NICENESS).min(19));
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn gives_way_alone_and_no_more_when_it_starts_another() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let (before, nicer) = (niceness(), (niceness() + NICENESS).min(19));
        let both = move || (niceness(), spawn("second", niceness).unwrap().join().unwrap());
        assert_eq!(spawn("first", both).unwrap().join().unwrap(), (nicer, nicer));
        assert_eq!(niceness(), before);
    }
}
