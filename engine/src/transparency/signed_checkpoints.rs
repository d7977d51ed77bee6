//! All signed checkpoints of a log, and comparison of the log with them.

use std::fmt;
use std::io;
use std::path::Path;

use super::checkpoint::{self, Checkpoint};
use super::checkpoint_file;
use super::note::Verifier;
use crate::log::redb::VerifyReport;
use crate::value::position::Position;

/// Checkpoints of one log, smallest first, each with its signed note.
#[derive(Debug, Clone, Default)]
pub struct SignedCheckpoints(Vec<(Checkpoint, String)>);

/// Reason why checkpoints cannot be read from a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read, or a line is not a checkpoint.
    #[error(transparent)]
    File(#[from] io::Error),
    /// A checkpoint is not trusted.
    #[error("a checkpoint is invalid: {0}")]
    Checkpoint(#[from] checkpoint::Error),
}

/// Difference between a log and its signed checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The log has other events than a checkpoint was signed for.
    Changed {
        /// The first position that no earlier checkpoint attests.
        first: Position,
        /// Size of the signed checkpoint.
        size: u64,
    },
    /// The log ends before the size of a signed checkpoint.
    CutOff {
        /// Head of the log.
        head: Position,
        /// Size of the signed checkpoint.
        size: u64,
    },
}

impl SignedCheckpoints {
    /// Takes checkpoints whose signatures were verified.
    #[must_use]
    pub fn new(mut checkpoints: Vec<(Checkpoint, String)>) -> Self {
        checkpoints.sort_by_key(|(checkpoint, _)| checkpoint.size);
        Self(checkpoints)
    }

    /// Reads the checkpoints of a file, and verifies every signature.
    ///
    /// # Errors
    /// When the file cannot be read, or a checkpoint is not trusted.
    pub fn read(path: &Path, verifier: &Verifier) -> Result<Self, Error> {
        let opened = checkpoint_file::iter(path)?.map(|signed| {
            let note = signed?.checkpoint;
            Ok((Checkpoint::open(&note, verifier)?, note))
        });
        opened.collect::<Result<_, Error>>().map(Self::new)
    }

    /// Sizes of the checkpoints, ascending.
    #[must_use]
    pub fn sizes(&self) -> Vec<u64> {
        self.0.iter().map(|(checkpoint, _)| checkpoint.size).collect()
    }

    /// The largest checkpoint that a log with this head can be compared with, and its note.
    #[must_use]
    pub fn newest(&self, head: Position) -> Option<&(Checkpoint, String)> {
        self.0.iter().rev().find(|(checkpoint, _)| checkpoint.size <= head.get())
    }

    /// First difference between the checkpoints and a log that was verified with the roots at
    /// [`sizes`](Self::sizes).
    #[must_use]
    pub fn first_difference(&self, report: &VerifyReport) -> Option<Difference> {
        let mut roots = report.roots.iter().copied().peekable();
        let mut attested = 0;
        for (checkpoint, _) in &self.0 {
            let (size, first) = (checkpoint.size, Position::new(attested).next());
            // Several checkpoints may have the same size.
            while roots.next_if(|(at, _)| *at < size).is_some() {}
            match roots.peek() {
                Some((at, root)) if *at == size && *root == checkpoint.root => attested = size,
                Some((at, _)) if *at == size => return Some(Difference::Changed { first, size }),
                _ if size > report.head.get() => {
                    return Some(Difference::CutOff { head: report.head, size });
                }
                // The entries could not be read that far; the report's own finding says why.
                _ => return None,
            }
        }
        None
    }
}

impl Difference {
    /// The first position that differs.
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
