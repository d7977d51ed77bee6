//! The log on redb, in one file. No other module names redb's types.
//!
//! * `tables`: the tables of the file and the rows that have a form of their own (docs/format.md).
//! * `database`: opening and creating the file, and what goes wrong with it, in words.
//! * `overlay`: reading a file without ever writing to it.
//! * `commands`: the commands that the log remembers. `recent`: the newest records, in memory.
//! * `writer`: [`RedbLog`], `reader`: [`RedbReader`], `verify`: reading everything again, `import`: [`RedbImport`], a log made
//!   from entries that another one wrote.

mod commands;
mod database;
mod import;
pub(crate) mod overlay;
mod reader;
mod recent;
mod tables;
mod verify;
mod writer;

pub use import::RedbImport;
pub use reader::RedbReader;
pub use tables::FORMAT;
pub use verify::{Finding, VerifyReport};
pub use writer::RedbLog;

/// The log's file in a data directory.
pub const FILE_NAME: &str = "events.redb";

/// How a log's file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedbOptions {
    /// How much of the file is kept in memory, in bytes.
    pub cache_bytes: usize,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 * 1024 * 1024 }
    }
}
