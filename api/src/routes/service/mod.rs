//! Endpoints about the service itself.

pub(crate) mod overview;
pub(crate) mod projections;
pub(crate) mod status;
