//! What a stored projection is.

use keyledger_engine::domain::record::Record;

use crate::stored::store::{self, Changes, Snapshot};

/// Why a record was not taken in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The record does not fit what came before it. Trying again will not help.
    #[error("{0}")]
    Poison(String),
    /// The rows could not be read.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// Refuses a record.
    pub fn poison(reason: impl Into<String>) -> Self {
        Self::Poison(reason.into())
    }
}

/// Rows made from the records of the log, one after the other, and from nothing else: no clock, no randomness, no
/// network. The same records give the same rows, whatever batches they came in.
///
/// Whoever drives a projection ([`Replay`](crate::stored::replay::Replay)) calls [`load`](Projection::load) once, and then for
/// every batch [`apply`](Projection::apply) for each record, [`write`](Projection::write) inside the commit and
/// [`publish`](Projection::publish) after it; or [`discard`](Projection::discard) in place of the last two.
pub trait Projection: Send + 'static {
    /// Its name, and that of its file.
    const NAME: &'static str;
    /// Changes whenever the same records would give other rows; files of another version are made anew.
    const VERSION: u32;

    /// Whether rows that this version made can be answered from, and be added to, until they are made anew. Say so only of
    /// versions whose answers are right.
    #[must_use]
    fn reads(version: u32) -> bool {
        version == Self::VERSION
    }

    /// Another one that starts from nothing. Readers do not see it before it is [shown](Projection::show).
    #[must_use]
    fn beside(&self) -> Self
    where
        Self: Sized;

    /// Lets readers see its rows, in place of those that they saw. Readings that have begun end with what they began with.
    fn show(&self);

    /// Takes up the work where `rows` stand, and lets readers have them.
    ///
    /// # Errors
    /// When the rows cannot be read, or are not what was written; in the latter case they are made anew.
    fn load(&mut self, rows: Snapshot) -> Result<(), store::Error>;

    /// Takes in a record. What follows from it is kept in memory until [`write`](Projection::write). `rows` are as the
    /// last commit left them.
    ///
    /// # Errors
    /// When the record is refused; the batch is discarded then.
    fn apply(&mut self, rows: &Snapshot, record: &Record) -> Result<(), Error>;

    /// Gives the rows that changed since the last commit, in the order of their keys.
    ///
    /// # Errors
    /// When a row cannot be encoded.
    fn write(&mut self, changes: &mut Changes<'_>) -> Result<(), store::Error>;

    /// Whether there are rows to be written before a long batch ends, so that not all of them are in memory then: those that
    /// hardly change any more in it, or, when there is `no_more` to come in it, many of any kind.
    fn has_settled(&self, _no_more: bool) -> bool {
        false
    }

    /// Gives some of those rows, in the order of their keys, and forgets them: whatever happens to them after this is applied
    /// to rows that were read. Rows so written are not of any position of the log before the batch ends, so this is for files
    /// that are thrown away when it does not come to its end.
    ///
    /// # Errors
    /// As [`write`](Projection::write).
    fn write_settled(&mut self, _no_more: bool, _changes: &mut Changes<'_>) -> Result<(), store::Error> {
        Ok(())
    }

    /// Lets readers have the rows as they are after a commit.
    fn publish(&mut self, rows: Snapshot);

    /// Forgets what records led to since the last commit, which left `rows`.
    ///
    /// # Errors
    /// When the rows cannot be read.
    fn discard(&mut self, rows: &Snapshot) -> Result<(), store::Error>;

    /// Lets go of the rows; readers get [`store::Error::NotReady`] from now on.
    fn close(&mut self);

    /// What people call the row with this key.
    fn row_name(key: &[u8]) -> String;
}
