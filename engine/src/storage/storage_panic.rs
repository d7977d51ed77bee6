//! Panics of the storage engine (redb), which some damaged files cause.
//!
//! Code that reads a file catches such a panic and returns an error that names the file. A commit that meets
//! a damaged list of free pages, however, panics a second time while the first panic unwinds, and Rust then
//! aborts the process. Closing a database is a commit too. Everything acknowledged is on disk by then. The
//! program's panic hook prints the last message; this module tells the hook which panic it is and which file
//! is concerned.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::PanicHookInfo;

/// Instruction for the operator after a [`StoragePanic::Final`].
pub const WHAT_TO_DO: &str = "make a new data directory from this one with `replay-tool backup --with-keys` \
     and `replay-tool restore` (docs/backup.md), or restore an older backup";

thread_local! {
    static GAVE_UP: Cell<bool> = const { Cell::new(false) };
    static FILE: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// Guard for the file this thread is working on. Dropping it restores the previous one.
#[must_use]
pub struct InFile {
    before: Option<Box<str>>,
}

/// Records the file that this thread is about to write, open or close with the storage engine, for
/// [`last_words`].
pub fn in_file(name: &str) -> InFile {
    InFile { before: FILE.replace(Some(name.into())) }
}

impl Drop for InFile {
    fn drop(&mut self) {
        FILE.replace(self.before.take());
    }
}

/// Panic of the storage engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoragePanic {
    /// The reading code catches it and returns an error.
    Caught,
    /// A second panic while the first unwinds. The process aborts.
    Final,
}

impl StoragePanic {
    /// Classifies a panic; `None` when the storage engine did not cause it. A panic hook must call this
    /// exactly once per panic.
    #[must_use]
    pub fn of(panic: &PanicHookInfo<'_>) -> Option<Self> {
        let in_engine = panic.location().is_some_and(|it| it.file().contains("/redb-"));
        // Identified by its text, because its location is that of Rust's own `panic_in_cleanup`.
        let in_cleanup = panic.payload_as_str() == Some("panic in a destructor during cleanup");
        if in_engine {
            GAVE_UP.set(true);
            return Some(Self::Caught);
        }
        (in_cleanup && GAVE_UP.get()).then_some(Self::Final)
    }
}

/// One line for the operator when [`StoragePanic::Final`] ends the process.
#[must_use]
pub fn last_words() -> String {
    let file = FILE.with_borrow(|file| file.as_deref().unwrap_or("a file of the data directory").to_owned());
    format!("{file}: damaged, and the storage engine cannot continue; {WHAT_TO_DO}")
}

/// The text that a caught panic carries.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_name_the_file_being_worked_on() {
        assert!(last_words().starts_with("a file of the data directory: damaged"));
        let outer = in_file("a/events.redb");
        {
            let _inner = in_file("a/vault.redb");
            assert!(last_words().starts_with("a/vault.redb: damaged"));
        }
        assert!(last_words().starts_with("a/events.redb: damaged"));
        drop(outer);
        assert!(last_words().starts_with("a file"));
    }
}
