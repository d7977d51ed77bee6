//! Endpoints about the log as a whole: proofs, verification, backup.

pub(crate) mod backup;
pub(crate) mod transparency;
pub(crate) mod verifications;
