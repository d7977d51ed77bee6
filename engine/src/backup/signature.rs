//! The signature under a backup: a signed note (C2SP) by the log's key over the SHA-256 of everything before
//! the last frame.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::log::merkle::Hash;
use crate::transparency::note::{Note, Signer, Verifier};

/// The first line of the signed text. It has spaces, which the first line of a checkpoint cannot have: that
/// is the log's name. So neither signature is ever one of the other.
const PURPOSE: &str = "keyledger backup 2";

/// Signs the SHA-256 of a backup.
#[must_use]
pub fn sign(hash: &Hash, signer: &Signer) -> String {
    Note::sign(text(hash, signer.verifier()), signer).to_string()
}

/// Whether `note` is the signature of a backup with this hash by this key.
pub(super) fn is_by(note: &str, hash: &Hash, verifier: &Verifier) -> bool {
    Note::parse(note).is_some_and(|note| note.text() == text(hash, verifier) && note.is_signed_by(verifier))
}

fn text(hash: &Hash, verifier: &Verifier) -> String {
    format!("{PURPOSE}\n{}\n{}\n", verifier.name(), STANDARD.encode(hash))
}
