//! Snapshots: the verification index on disk, so that a start does not replay the whole log.

pub(super) mod format;
mod loading;
pub(super) mod saving;
pub(super) mod walk;
