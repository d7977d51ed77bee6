//! Checks entries, while they are read in order, against the Merkle tree: an entry that somebody altered has
//! another hash than the one that was signed or stored for it.

use super::checkpoint::Checkpoint;
use super::tree;
use crate::log::merkle::{Frontier, Hash};
use crate::log::{Error, LogReader};
use crate::value::position::Position;

/// Collects the hashes of the entries after some position.
pub struct EntryCheck {
    frontier: Frontier,
    signed: Option<Checkpoint>,
    mismatch: Option<Mismatch>,
}

/// The entries up to this size of the tree are not those that were appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// A checkpoint was signed for other entries.
    #[error("the events up to position {0} differ from those of the last signed checkpoint")]
    Signed(u64),
    /// The stored tree has other hashes.
    #[error("the events up to position {0} do not have the hashes that are stored for them")]
    Stored(u64),
}

impl EntryCheck {
    /// Prepares a check of the entries after `after`. What comes before is taken from the stored hashes.
    /// `signed` is the last signed checkpoint; one that ends before `after` is not compared.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn after(log: &dyn LogReader, after: Position, signed: Option<Checkpoint>) -> Result<Self, Error> {
        let frontier = tree::frontier(log, after.get())?;
        Ok(Self { frontier, signed: signed.filter(|it| it.size > after.get()), mismatch: None })
    }

    /// Takes the leaf hashes of the next entries.
    pub fn append(&mut self, leaves: impl IntoIterator<Item = Hash>) {
        for leaf in leaves {
            self.frontier.append(leaf, |_, _, _| {});
            let reached = self.signed.take_if(|signed| signed.size == self.frontier.size());
            if reached.is_some_and(|signed| signed.root != self.frontier.root()) {
                self.mismatch.get_or_insert(Mismatch::Signed(self.frontier.size()));
            }
        }
    }

    /// Compares the collected hashes with the tree that the log has stored, and returns the first mismatch.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn finish(self, log: &dyn LogReader) -> Result<Option<Mismatch>, Error> {
        let stored = log.frontier()?;
        let is_other = stored.size() == self.frontier.size() && stored.root() != self.frontier.root();
        Ok(self.mismatch.or(is_other.then_some(Mismatch::Stored(stored.size()))))
    }
}
