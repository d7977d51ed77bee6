//! The service's memory.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Requests and the log's pages are many small pieces of memory; the system's allocator spends a fifth of the time on them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The allocator's option for how many milliseconds it keeps memory that nobody uses, before it goes back to the system.
const KEEP_OPTION: &str = "MIMALLOC_PURGE_DELAY";
/// Ten seconds instead of one. What one group of commands or one commit of a projection needed, the next one needs again:
/// under load the system would clear the same memory all the time, for every twentieth create there could be.
const KEEP_MILLIS: &str = "10000";

/// Has the allocator keep memory for longer, unless the environment says how long. It reads its options before `main`, so
/// the program begins once more, as the same process; where the system does not let it, it goes on as it is.
pub(crate) fn keep_memory() {
    if env::var_os(KEEP_OPTION).is_some() {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let mut arguments = env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // It returns only if it could not be done.
    let error = again.args(arguments).env(KEEP_OPTION, KEEP_MILLIS).exec();
    tracing::debug!(%error, "memory is kept for as long as the allocator does by itself");
}
