//! Endpoints about keys and their tokens.

pub mod create;
pub mod forward_auth;
pub mod issuing;
pub mod key;
pub mod list;
pub mod self_revocation;
pub mod usage;
pub mod verification;
pub mod verify;
