//! Stored projections: rows and position in one commit, rebuilt in a file beside the current one, each on a thread of its own.

pub mod projection;
pub(crate) mod published;
pub mod rebuild;
pub mod replay;
pub mod runner;
pub mod store;
