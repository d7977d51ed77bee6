//! Requests that ask a witness to cosign a checkpoint (C2SP tlog-witness, `add-checkpoint`).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::tree;
use crate::log::{self, LogReader};

/// Body of the request: the size that the witness cosigned last (0 for none), the proof that the tree of
/// `size` is consistent with it, and the signed checkpoint of that size. `None` when the witness has seen a
/// larger tree.
///
/// # Errors
/// When the log cannot be read, or has fewer than `size` entries.
pub fn body(
    log: &dyn LogReader,
    old_size: u64,
    size: u64,
    checkpoint: &str,
) -> Result<Option<String>, log::Error> {
    let Some(proof) = tree::consistency_proof(log, old_size, size)? else { return Ok(None) };
    let mut text = format!("old {old_size}\n");
    for hash in proof {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", STANDARD.encode(hash));
    }
    Ok(Some(text + "\n" + checkpoint))
}
