//! Events, exports, erasure, and independent checks of the log.

pub(crate) mod erasure;
pub(crate) mod erasure_interruptions;
pub(crate) mod erasure_vaults;
pub(crate) mod events;
pub(crate) mod exports;
pub(crate) mod log_verification;
pub(crate) mod transparency;
pub(crate) mod witnesses;
