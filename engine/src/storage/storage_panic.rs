//! What the storage engine (redb) panics with, which it does on some damaged files.
//!
//! Whoever reads a file catches it and answers with an error that names the file. But a commit that comes upon a damaged
//! list of free pages panics once more while the first panic is on its way, and then Rust ends the process (the same when a
//! database is closed, which is a commit too). What was acknowledged is on the disk by then. That last word belongs to the
//! program's panic hook, which is told here what it is about.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::PanicHookInfo;

/// What helps where [`StoragePanic::Final`] ends the process.
pub const WHAT_TO_DO: &str = "make a new directory of the present one by `replay-tool backup --with-keys` and `replay-tool restore` \
     (docs/backup.md), or restore an older backup";

thread_local! {
    static GAVE_UP: Cell<bool> = const { Cell::new(false) };
    static FILE: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// What this thread writes to, opens or closes, until this is dropped.
#[must_use]
pub struct InFile {
    before: Option<Box<str>>,
}

/// Notes the file that this thread has the storage engine write to, open or close, for [`last_words`].
pub fn in_file(name: &str) -> InFile {
    InFile { before: FILE.replace(Some(name.into())) }
}

impl Drop for InFile {
    fn drop(&mut self) {
        FILE.replace(self.before.take());
    }
}

/// A panic of the storage engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoragePanic {
    /// It is caught by whoever reads the file, and told as an error.
    Caught,
    /// The second one at a time. The process ends with it.
    Final,
}

impl StoragePanic {
    /// What a panic hook is called for; `None` when it is not of the storage engine. To be called once a panic.
    #[must_use]
    pub fn of(panic: &PanicHookInfo<'_>) -> Option<Self> {
        let in_engine = panic.location().is_some_and(|it| it.file().contains("/redb-"));
        // The location is the one of Rust's own `panic_in_cleanup`.
        let in_cleanup = panic.payload_as_str() == Some("panic in a destructor during cleanup");
        if in_engine {
            GAVE_UP.set(true);
            return Some(Self::Caught);
        }
        (in_cleanup && GAVE_UP.get()).then_some(Self::Final)
    }
}

/// Returns the message of a caught panic, or `no reason given` for a payload that is no text.
#[must_use]
pub fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}

/// What a program says when [`StoragePanic::Final`] ends it: one line.
#[must_use]
pub fn last_words() -> String {
    let file = FILE.with_borrow(|file| file.as_deref().unwrap_or("a file of the data directory").to_owned());
    format!("{file}: damaged, and the storage engine cannot go on with it; {WHAT_TO_DO}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_the_one_that_is_worked_on() {
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
