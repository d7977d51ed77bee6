//! Reading everything again.

use super::reader::RedbReader;
use crate::log::merkle::Hash;
use crate::log::{Error, LogId};
use crate::position::Position;

/// What reading a whole log again has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// Which log it is.
    pub log_id: LogId,
    /// Where it stood when the reading began.
    pub head: Position,
    /// The root of the Merkle tree over all entries up to there, as computed from the entries.
    pub root: Hash,
    /// The first thing that is wrong; none when all is right.
    pub finding: Option<Finding>,
}

/// Something wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The first bad position; where only a range is known to be bad, its first, and the reason says so.
    pub position: Position,
    /// What is wrong there.
    pub reason: String,
}

impl RedbReader {
    /// Reads everything again: every record with its checksum, its place, its time and its stream, every stored hash of
    /// the Merkle tree. `progress` is told now and then how far it has come, and where the head was at the start.
    ///
    /// # Errors
    /// When the file cannot be read at all; damage is not an error but a [`Finding`].
    pub fn verify(&self, mut progress: impl FnMut(Position, Position)) -> Result<VerifyReport, Error> {
        progress(Position::START, Position::START);
        Err(Error::Unavailable("verify".into()))
    }
}
