//! The log on redb: a database, and a journal with the records that the database need not have yet.
//!
//! * `tables`: the database's tables, and the encoding of their rows (docs/format.md).
//! * `database`: opening and creating the database file, and its errors in words. [`FILE_NAME`] names it.
//! * `journal`: the journal file, pending records, checkpoints and recovery. Start with its prose.
//! * `writer`: [`RedbLog`], the writing end; `writer/group` encodes a group and decides each append.
//! * `reader`: [`RedbReader`], the reading end. `recent`: the newest records, decoded and shared by readers.
//! * `idempotency`: the commands that the log remembers.
//! * `verify`: reads everything again and checks it ([`VerifyReport`]); `verify/records` and `verify/streams`
//!   are its two passes.
//! * `import`: [`RedbImport`], a log built from the entries of another one.
//!
//! Of the log, only this module names redb's types. The overlay for reading a file without writing it, and
//! the direct writes of the journal, are in `crate::storage`.

mod database;
mod idempotency;
mod import;
mod journal;
mod reader;
mod recent;
mod tables;
mod verify;
mod writer;

use std::path::{Path, PathBuf};

pub use import::RedbImport;
pub use reader::RedbReader;
pub use tables::FORMAT;
pub use verify::{Finding, VerifyReport};
pub use writer::RedbLog;

/// The log's database in a data directory.
pub const FILE_NAME: &str = crate::storage::data_directory::LOG;

/// Path of the journal that belongs to the database at `path`: `events.journal` beside `events.redb`.
#[must_use]
pub fn journal_beside(path: &Path) -> PathBuf {
    path.with_extension("journal")
}

/// Options for opening a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedbOptions {
    /// Size of the database's cache, in bytes.
    pub cache_bytes: usize,
    /// Length of the journal, in bytes, when it has to be created. A checkpoint begins when half of it is
    /// full: a longer journal means fewer and larger commits.
    pub journal_bytes: u64,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 * 1024 * 1024, journal_bytes: 2 * 1024 * 1024 }
    }
}
