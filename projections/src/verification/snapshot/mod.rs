//! Snapshots: the verification index on disk, so that a start does not replay the whole log.

pub(super) mod codec;
pub(super) mod saving;
pub(super) mod walk;
