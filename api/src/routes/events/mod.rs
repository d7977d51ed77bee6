//! Endpoints about events and erasures.

pub(crate) mod erasures;
pub(crate) mod list;
