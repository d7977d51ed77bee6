//! Endpoints about keys and their tokens.

pub(crate) mod create;
pub(crate) mod forward_auth;
pub(crate) mod issuing;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod self_revocation;
pub(crate) mod usage;
pub(crate) mod verify;
pub(crate) mod view;
