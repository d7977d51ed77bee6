//! Endpoints about organizations, portfolios and policies.

pub mod clients;
pub mod organization;
pub mod policies;
