//! Admission: what the service refuses so that no caller takes what all need.
//!
//! * [`network`]: the origin that a peer's address counts as. [`holders`]: how much each holder holds at a
//!   time. [`refusal`]: what the metrics count.
//! * [`long_answers`]: the streams, files and backups that callers read.

pub(crate) mod holders;
pub(crate) mod long_answers;
pub(crate) mod network;
mod options;
pub(crate) mod refusal;

pub(crate) use options::Options;
