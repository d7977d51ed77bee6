//! All checkpoints that were signed for a log, and whether the log is what they say.

use std::fmt;
use std::io;
use std::path::Path;

use super::checkpoint::{self, Checkpoint};
use super::checkpoint_file;
use super::note::Verifier;
use crate::log::redb::VerifyReport;
use crate::value::position::Position;

/// Checkpoints of one log, smallest first, each with the note it came from.
#[derive(Debug, Clone, Default)]
pub struct SignedCheckpoints(Vec<(Checkpoint, String)>);

/// Why checkpoints cannot be had from a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read, or holds something else.
    #[error(transparent)]
    File(#[from] io::Error),
    /// One of them is not to be believed.
    #[error("a checkpoint is not good: {0}")]
    Checkpoint(#[from] checkpoint::Error),
}

/// Where a log is not what was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Some of the events from a position on are not those that a checkpoint was signed for.
    Changed {
        /// The first position that no checkpoint vouches for.
        first: Position,
        /// The size that was signed.
        size: u64,
    },
    /// The log ends before what was signed.
    CutOff {
        /// Where it ends.
        head: Position,
        /// The size that was signed.
        size: u64,
    },
}

impl SignedCheckpoints {
    /// Checkpoints whose signatures were checked.
    #[must_use]
    pub fn new(mut checkpoints: Vec<(Checkpoint, String)>) -> Self {
        checkpoints.sort_by_key(|(checkpoint, _)| checkpoint.size);
        Self(checkpoints)
    }

    /// Those of a file; every signature is checked.
    ///
    /// # Errors
    /// When it cannot be read, or one is not to be believed.
    pub fn read(path: &Path, verifier: &Verifier) -> Result<Self, Error> {
        let opened = checkpoint_file::iter(path)?.map(|signed| {
            let note = signed?.checkpoint;
            Ok((Checkpoint::open(&note, verifier)?, note))
        });
        opened.collect::<Result<_, Error>>().map(Self::new)
    }

    /// The sizes of the tree that were signed.
    #[must_use]
    pub fn sizes(&self) -> Vec<u64> {
        self.0.iter().map(|(checkpoint, _)| checkpoint.size).collect()
    }

    /// The largest that a log with this head can be compared with, and its note.
    #[must_use]
    pub fn newest(&self, head: Position) -> Option<&(Checkpoint, String)> {
        self.0.iter().rev().find(|(checkpoint, _)| checkpoint.size <= head.get())
    }

    /// The first place at which a log, which was read with the roots at [`sizes`](Self::sizes), is not what was signed.
    #[must_use]
    pub fn first_difference(&self, report: &VerifyReport) -> Option<Difference> {
        let mut roots = report.roots.iter().copied().peekable();
        let mut good = 0;
        for (checkpoint, _) in &self.0 {
            let (size, first) = (checkpoint.size, Position::new(good).next());
            // Two checkpoints may have one size.
            while roots.next_if(|(at, _)| *at < size).is_some() {}
            match roots.peek() {
                Some((at, root)) if *at == size && *root == checkpoint.root => good = size,
                Some((at, _)) if *at == size => return Some(Difference::Changed { first, size }),
                _ if size > report.head.get() => {
                    return Some(Difference::CutOff { head: report.head, size });
                }
                // The entries could not be read so far; the log's own finding says why.
                _ => return None,
            }
        }
        None
    }
}

impl Difference {
    /// The first position that is not what was signed.
    #[must_use]
    pub fn position(&self) -> Position {
        match self {
            Self::Changed { first, .. } => *first,
            Self::CutOff { head, .. } => head.next(),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { size, .. } => write!(
                f,
                "the events from here to position {size} are not those that a checkpoint was signed for"
            ),
            Self::CutOff { head, size } => write!(
                f,
                "the log ends at position {head}, but a checkpoint was signed up to position {size}"
            ),
        }
    }
}
