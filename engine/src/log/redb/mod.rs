//! The log on redb: a database, and a journal of what it does not have on the disk yet. No other module names redb's types.
//!
//! * `tables`: the tables of the file and the rows that have a form of their own (docs/format.md).
//! * `database`: opening and creating the file, and what goes wrong with it, in words.
//! * `journal`: the file beside it, `direct_file`, how it is written, and `frame`, what it consists of. `staged`: what the
//!   journal has and the database need not have yet, in memory, in a `segment`. `settling`: it is put into the database.
//!   `recovery`: the same when a log is opened.
//! * `overlay`: reading a file without ever writing to it.
//! * `commands`: the commands that the log remembers. `recent`: the newest records, in memory.
//! * `writer`: [`RedbLog`], `reader`: [`RedbReader`], `verify`: reading everything again, `import`: [`RedbImport`], a log made
//!   from entries that another one wrote.

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

/// The journal that belongs to the database at `path`: `events.journal` beside `events.redb`.
#[must_use]
pub fn journal_beside(path: &Path) -> PathBuf {
    path.with_extension("journal")
}

/// How a log's file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedbOptions {
    /// How much of the database is kept in memory, in bytes.
    pub cache_bytes: usize,
    /// The length of the journal, in bytes, if there is none yet. When half of it is full, that goes into a commit of the
    /// database: the longer, the fewer and the larger these are.
    pub journal_bytes: u64,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 * 1024 * 1024, journal_bytes: 2 * 1024 * 1024 }
    }
}
