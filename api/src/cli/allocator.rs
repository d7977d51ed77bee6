//! The service's memory.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
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
/// the program begins once more, as the same process.
///
/// # Errors
/// When the system did not let it. The program can go on, but writing to a connection that has gone ends it now (`SIGPIPE`),
/// until it handles that signal: the standard library takes its own handling back before it begins another program.
pub(crate) fn keep_memory() -> io::Result<()> {
    if env::var_os(KEEP_OPTION).is_some() {
        return Ok(());
    }
    // What runs may be a loader that was given this program.
    let is_this = |program: &PathBuf| program.file_name().is_some_and(|name| name == "keyledger");
    let Some(program) = env::current_exe().ok().filter(is_this) else { return Ok(()) };
    let mut arguments = env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // It returns only if it could not be done.
    Err(again.args(arguments).env(KEEP_OPTION, KEEP_MILLIS).exec())
}
