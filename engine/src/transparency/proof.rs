//! Self-contained proof that an entry is in the log, as a file (C2SP tlog-proof).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::{self, Checkpoint};
use super::note::Verifier;
use super::tree;
use crate::log::merkle::{Hash, leaf_hash};
use crate::log::{self, LogReader};
use crate::value::position::Position;

/// File name extension of proofs.
pub const FILE_EXTENSION: &str = "tlog-proof";
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Index of an entry in the tree, with the hashes that lead from it to a signed root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    index: u64,
    hashes: Vec<Hash>,
    checkpoint: String,
}

/// Reason why a proof is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not a proof.
    #[error("not a proof")]
    Malformed,
    /// Its checkpoint is not trusted.
    #[error("its checkpoint is invalid: {0}")]
    Checkpoint(#[from] checkpoint::Error),
    /// The log has another entry at this position.
    #[error("the entry is not the one that the log has at position {0}")]
    NotIncluded(Position),
}

impl InclusionProof {
    /// Proves the entry at `position` under the signed checkpoint of `size`; `None` when the checkpoint does
    /// not cover it.
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

    /// The text of the proof file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\nindex {}\n", self.index);
        for hash in &self.hashes {
            text.push_str(&STANDARD.encode(hash));
            text.push('\n');
        }
        text + "\n" + &self.checkpoint
    }

    /// Parses the text of a proof file.
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

    /// Verifies that `entry` is in the log that `verifier` belongs to, and returns its position.
    ///
    /// # Errors
    /// When the proof is invalid.
    pub fn verify(&self, entry: &[u8], verifier: &Verifier) -> Result<Position, Error> {
        let checkpoint = Checkpoint::open(&self.checkpoint, verifier)?;
        let position = Position::new(self.index).next();
        let root = tree::root_of_inclusion(&leaf_hash(entry), self.index, checkpoint.size, &self.hashes);
        if root == Some(checkpoint.root) { Ok(position) } else { Err(Error::NotIncluded(position)) }
    }
}
