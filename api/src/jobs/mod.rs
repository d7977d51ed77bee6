//! Background jobs, which run without a request.

pub(crate) mod housekeeper;
pub(crate) mod idle_sessions;
pub(crate) mod last_uses;
pub(crate) mod log_verification;
pub(crate) mod webhooks;
pub(crate) mod witness;
