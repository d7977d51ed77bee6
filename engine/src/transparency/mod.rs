//! What makes the log a transparency log: anybody with its checkpoints can check that nothing in it was changed, taken
//! out or put in, without trusting whoever keeps it.
//!
//! The formats are C2SP's: [tlog-tiles] for the tree and the entries ([`tile`]), [tlog-checkpoint] and [signed-note]
//! for what is signed ([`checkpoint`], [`note`]), [tlog-proof] for the proof of one entry ([`proof`]), [tlog-witness] and
//! [tlog-cosignature] for those who vouch that there is but one log ([`submission`], [`note::WitnessKey`]). The hashes are
//! RFC 6962's ([`tree`]). [`checkpoint_file`] keeps what was signed, and
//! [`signed_checkpoints`] compares a log with it.
//!
//! [tlog-tiles]: https://c2sp.org/tlog-tiles
//! [tlog-checkpoint]: https://c2sp.org/tlog-checkpoint
//! [signed-note]: https://c2sp.org/signed-note
//! [tlog-proof]: https://c2sp.org/tlog-proof
//! [tlog-witness]: https://c2sp.org/tlog-witness
//! [tlog-cosignature]: https://c2sp.org/tlog-cosignature

pub mod checkpoint;
pub mod checkpoint_file;
pub mod note;
pub mod proof;
pub mod signed_checkpoints;
pub mod submission;
pub mod tile;
pub mod tree;

#[cfg(test)]
mod tests;
