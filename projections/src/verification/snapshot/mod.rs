//! The verification index on disk, so that a start need not replay the log.

pub(super) mod codec;
pub(super) mod saving;
pub(super) mod walk;
