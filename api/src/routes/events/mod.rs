//! Endpoints about events and erasures.

pub mod erasures;
pub mod list;
