//! Stored projections: rows and checkpoint change in one commit, each projection follows the log on its own
//! thread, and a rebuild fills a file beside the current one.

pub mod comparison;
pub mod projection;
pub(crate) mod published;
pub mod rebuild;
pub mod replay;
pub mod runner;
pub mod store;
