//! Checkpoints: the size and root of the tree at some time (C2SP tlog-checkpoint).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::note::{Note, Signer, Verifier};
use crate::log::merkle::Hash;

/// State of a log at some time, as a signature attests it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log, which is also the name of its signing key.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
}

/// Reason why a checkpoint is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not a checkpoint.
    #[error("not a checkpoint")]
    Malformed,
    /// The signature of the key is missing or invalid.
    #[error("the signature of {0} is missing or invalid")]
    Signature(String),
    /// The checkpoint belongs to another log.
    #[error("it is a checkpoint of another log, {0}")]
    Origin(String),
}

impl Checkpoint {
    /// The text to sign.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// Signs the checkpoint and returns the signed note.
    #[must_use]
    pub fn sign(&self, signer: &Signer) -> String {
        Note::sign(self.to_text(), signer).to_string()
    }

    /// Parses a signed checkpoint and verifies its origin and signature.
    ///
    /// # Errors
    /// When it is not a checkpoint, belongs to another log, or is not signed by the key.
    pub fn open(note: &str, verifier: &Verifier) -> Result<Self, Error> {
        let note = Note::parse(note).ok_or(Error::Malformed)?;
        let checkpoint = Self::parse(note.text()).ok_or(Error::Malformed)?;
        if checkpoint.origin != verifier.name() {
            return Err(Error::Origin(checkpoint.origin));
        }
        if !note.is_signed_by(verifier) {
            return Err(Error::Signature(verifier.name().to_owned()));
        }
        Ok(checkpoint)
    }

    /// Parses a signed checkpoint without verifying who signed it; `None` when it is malformed. The result
    /// proves nothing.
    #[must_use]
    pub fn unverified(note: &str) -> Option<Self> {
        Self::parse(Note::parse(note)?.text())
    }

    /// Parses the text. Further lines after the first three are ignored, as the format demands.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let plain = size == "0" || !size.starts_with('0');
        if origin.is_empty() || !plain || !size.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let root = STANDARD.decode(root).ok()?.try_into().ok()?;
        Some(Self { origin: origin.to_owned(), size: size.parse().ok()?, root })
    }
}
