//! Admission: what the service refuses so that no caller takes what all need.
//!
//! * [`network`]: the origin that a peer's address counts as. [`holders`]: how much each holder holds at a
//!   time. [`refusal`]: what the metrics count.

pub(crate) mod holders;
pub(crate) mod network;
pub(crate) mod refusal;
