//! Endpoints about the log as a whole: proofs, verification, backup.

pub mod backup;
pub mod transparency;
pub mod verifications;
