//! Events, exports, erasure, and the log as others check it.

pub(crate) mod erasure;
pub(crate) mod events;
pub(crate) mod exports;
pub(crate) mod log_verification;
pub(crate) mod transparency;
pub(crate) mod witnesses;
