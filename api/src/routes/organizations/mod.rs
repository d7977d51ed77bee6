//! Endpoints about organizations, portfolios and policies.

pub(crate) mod clients;
pub(crate) mod organization;
pub(crate) mod policies;
