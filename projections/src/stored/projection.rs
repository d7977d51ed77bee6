//! The contract of a stored projection.

use keyledger_engine::domain::record::Record;

use crate::stored::store::{self, Changes, Snapshot};

/// Why a projection did not apply a record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The record does not fit the records before it. Retrying does not help.
    #[error("{0}")]
    Poison(String),
    /// The rows cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// Creates a [`Poison`](Self::Poison) error with this reason.
    pub fn poison(reason: impl Into<String>) -> Self {
        Self::Poison(reason.into())
    }
}

/// Rows derived from the records of the log, in order, and from nothing else: no clock, no randomness, no
/// network. The same records give the same rows, however they are split into batches.
///
/// [`Replay`](crate::stored::replay::Replay) drives a projection. It calls [`load`](Projection::load) once.
/// For every batch it calls [`apply`](Projection::apply) for each record, [`write`](Projection::write) inside
/// the commit and [`publish`](Projection::publish) after it; or [`discard`](Projection::discard) instead of
/// the last two.
pub trait Projection: Send + 'static {
    /// Name of the projection, its file and its thread.
    const NAME: &'static str;
    /// Version of the rows. Increase it whenever the same records would give other rows; files of another
    /// version are rebuilt.
    const VERSION: u32;

    /// Returns whether this code can read and extend rows of `version` until they are rebuilt. Return `true`
    /// only for versions whose answers are correct.
    #[must_use]
    fn reads(version: u32) -> bool {
        version == Self::VERSION
    }

    /// Creates an empty instance for a rebuild. Readers do not see its rows before
    /// [`switch_readers`](Projection::switch_readers).
    #[must_use]
    fn new_instance(&self) -> Self
    where
        Self: Sized;

    /// Switches readers to the rows of this instance. A query that has started finishes on the rows it
    /// started with.
    fn switch_readers(&self);

    /// Loads what the projection keeps in memory from `rows`, and publishes them to the readers of this
    /// instance.
    ///
    /// # Errors
    /// When the rows cannot be read, or are damaged; damaged rows are rebuilt.
    fn load(&mut self, rows: Snapshot) -> Result<(), store::Error>;

    /// Applies one record. The changes stay in memory until [`write`](Projection::write). `rows` is the state
    /// of the last commit.
    ///
    /// # Errors
    /// When the record does not fit; the batch is then discarded.
    fn apply(&mut self, rows: &Snapshot, record: &Record) -> Result<(), Error>;

    /// Writes the rows that changed since the last commit, in ascending key order.
    ///
    /// # Errors
    /// When a row cannot be encoded.
    fn write(&mut self, changes: &mut Changes<'_>) -> Result<(), store::Error>;

    /// Returns whether rows should be written before a long batch ends, to bound memory: rows that are
    /// unlikely to change again in the batch, or, `at_end` of the batch, any large number of rows.
    fn should_spill(&self, _at_end: bool) -> bool {
        false
    }

    /// Writes some of those rows, in ascending key order, and drops them from memory. Later records of the
    /// batch read them back before changing them. Until the batch ends, the file matches no position of the
    /// log, so only files that are deleted when a batch fails may be filled this way.
    ///
    /// # Errors
    /// As [`write`](Projection::write).
    fn spill(&mut self, _at_end: bool, _changes: &mut Changes<'_>) -> Result<(), store::Error> {
        Ok(())
    }

    /// Publishes the rows of the last commit to readers.
    fn publish(&mut self, rows: Snapshot);

    /// Drops the changes since the last commit. `rows` is the state of that commit.
    ///
    /// # Errors
    /// When the rows cannot be read.
    fn discard(&mut self, rows: &Snapshot) -> Result<(), store::Error>;

    /// Releases the rows. Readers get [`store::Error::NotReady`] from now on.
    fn close(&mut self);

    /// Returns how a person refers to the row with this key, such as a key's id.
    fn row_name(key: &[u8]) -> String;
}
