//! Endpoints about the service itself.

pub mod overview;
pub mod projections;
pub mod status;
