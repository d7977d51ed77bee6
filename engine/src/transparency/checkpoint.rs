//! A checkpoint: how large the tree is and what its root is (C2SP tlog-checkpoint).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::note::{Note, Signer, Verifier};
use crate::log::merkle::Hash;

/// The state of a log at some time, which a signature vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log; also the name of the key that signs.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
}

/// Why a checkpoint is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no checkpoint.
    #[error("it does not have the form of a checkpoint")]
    Malformed,
    /// The key's signature is missing or wrong.
    #[error("the signature of {0} is missing or wrong")]
    Signature(String),
    /// It is another log's.
    #[error("it is a checkpoint of {0}")]
    Origin(String),
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// Signs it.
    #[must_use]
    pub fn sign(&self, signer: &Signer) -> String {
        Note::sign(self.to_text(), signer).to_string()
    }

    /// Reads a signed checkpoint and checks who signed it.
    ///
    /// # Errors
    /// When it is none, is another log's, or its signature is not the key's.
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

    /// What a note says without looking at who signed it; `None` when it is no checkpoint. It convinces nobody.
    #[must_use]
    pub fn unverified(note: &str) -> Option<Self> {
        Self::parse(Note::parse(note)?.text())
    }

    /// Reads the text; further lines after the three are left aside, as the format demands.
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
