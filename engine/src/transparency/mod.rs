//! Transparency of the log: with its checkpoints, anyone can check that nothing in it was changed, removed or
//! inserted, without trusting its operator.
//!
//! The formats are those of C2SP: [tlog-tiles] for the tree and the entries ([`tile`]), [tlog-checkpoint] and
//! [signed-note] for signed checkpoints ([`checkpoint`], [`note`]), [tlog-proof] for the proof of one entry
//! ([`proof`]), and [tlog-witness] and [tlog-cosignature] for witnesses, who attest that there is only one
//! log ([`submission`], [`note::WitnessKey`]). The hashes are those of RFC 6962 ([`tree`]).
//! [`checkpoint_file`] stores signed checkpoints, and [`signed_checkpoints`] compares a log with them.
//! [`entry_check`] checks entries while a log is replayed.
//!
//! [tlog-tiles]: https://c2sp.org/tlog-tiles
//! [tlog-checkpoint]: https://c2sp.org/tlog-checkpoint
//! [signed-note]: https://c2sp.org/signed-note
//! [tlog-proof]: https://c2sp.org/tlog-proof
//! [tlog-witness]: https://c2sp.org/tlog-witness
//! [tlog-cosignature]: https://c2sp.org/tlog-cosignature

pub mod checkpoint;
pub mod checkpoint_file;
pub mod entry_check;
pub mod note;
pub mod proof;
pub mod signed_checkpoints;
pub mod submission;
pub mod tile;
pub mod tree;

#[cfg(test)]
mod tests;
