//! The process's memory allocator and its purge delay (docs/decisions/allocator.md).

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Requests and the log's pages are many small allocations, which take a fifth of the time with the system's
/// allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// mimalloc's option for how many milliseconds it keeps unused memory before it returns it to the operating
/// system.
const PURGE_DELAY_OPTION: &str = "MIMALLOC_PURGE_DELAY";
/// Ten seconds instead of the default of one. Each group of commands and each commit of a projection needs
/// the memory that the previous one freed.
const PURGE_DELAY_MILLIS: &str = "10000";

/// The purge delay of this process, in milliseconds; none for the allocator's own.
pub(crate) fn purge_delay() -> Option<String> {
    env::var(PURGE_DELAY_OPTION).ok()
}

/// Sets the allocator's purge delay unless the environment sets it: re-executes the program as the same
/// process, because mimalloc reads its options before `main`.
///
/// # Errors
/// When the operating system refuses. The program can continue, but until it handles `SIGPIPE`, writing to a
/// closed connection ends the process: the standard library resets that signal before it executes a program.
pub(crate) fn set_purge_delay() -> io::Result<()> {
    if env::var_os(PURGE_DELAY_OPTION).is_some() {
        return Ok(());
    }
    // The current executable may be a loader that was given this program.
    let is_this = |program: &PathBuf| program.file_name().is_some_and(|name| name == "keyledger");
    let Some(program) = env::current_exe().ok().filter(is_this) else { return Ok(()) };
    let mut arguments = env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // `exec` returns only when it fails.
    Err(command.args(arguments).env(PURGE_DELAY_OPTION, PURGE_DELAY_MILLIS).exec())
}
