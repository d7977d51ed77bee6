//! Background jobs: what the service does without a request.

pub mod housekeeper;
pub mod log_verification;
pub mod webhooks;
pub mod witness;
