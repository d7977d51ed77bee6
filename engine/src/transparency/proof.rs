//! The proof that one entry is in the log, as a file that needs nothing else (C2SP tlog-proof).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::{self, Checkpoint};
use super::note::Verifier;
use super::tree;
use crate::log::merkle::{Hash, leaf_hash};
use crate::log::{self, LogReader};
use crate::value::position::Position;

/// What such files are called.
pub const FILE_EXTENSION: &str = "tlog-proof";
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// An entry's place in the tree, and the way from it to a signed root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    index: u64,
    hashes: Vec<Hash>,
    checkpoint: String,
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no proof.
    #[error("it does not have the form of a proof")]
    Malformed,
    /// Its checkpoint is not to be believed.
    #[error("its checkpoint is not good: {0}")]
    Checkpoint(#[from] checkpoint::Error),
    /// The entry is not the one that the tree has there.
    #[error("the entry is not the one that the log has at position {0}")]
    NotIncluded(Position),
}

impl InclusionProof {
    /// Proves the entry at `position` under a signed checkpoint of that size; none when the checkpoint does not cover it.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn new(
        log: &dyn LogReader,
        position: Position,
        signed: &str,
        size: u64,
    ) -> Result<Option<Self>, log::Error> {
        let Some(index) = position.entry_index() else { return Ok(None) };
        let Some(hashes) = tree::inclusion_proof(log, index, size)? else { return Ok(None) };
        Ok(Some(Self { index, hashes, checkpoint: signed.to_owned() }))
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\nindex {}\n", self.index);
        for hash in &self.hashes {
            text.push_str(&STANDARD.encode(hash));
            text.push('\n');
        }
        text + "\n" + &self.checkpoint
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (proof, checkpoint) = text.split_once("\n\n").ok_or(Error::Malformed)?;
        let mut lines = proof.lines().peekable();
        if lines.next() != Some(HEADER) {
            return Err(Error::Malformed);
        }
        lines.next_if(|line| line.starts_with("extra "));
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(Error::Malformed)?;
        let hash = |line| STANDARD.decode(line).ok()?.try_into().ok();
        Ok(Self {
            index: index.parse().map_err(|_| Error::Malformed)?,
            hashes: lines.map(hash).collect::<Option<_>>().ok_or(Error::Malformed)?,
            checkpoint: checkpoint.to_owned(),
        })
    }

    /// Checks that `entry` is in the log that the key signs for, and tells where.
    ///
    /// # Errors
    /// When it proves nothing.
    pub fn verify(&self, entry: &[u8], verifier: &Verifier) -> Result<Position, Error> {
        let checkpoint = Checkpoint::open(&self.checkpoint, verifier)?;
        let position = Position::new(self.index).next();
        let root = tree::root_of_inclusion(&leaf_hash(entry), self.index, checkpoint.size, &self.hashes);
        if root == Some(checkpoint.root) { Ok(position) } else { Err(Error::NotIncluded(position)) }
    }
}
