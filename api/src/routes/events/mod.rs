//! Endpoints about events and erasures.

pub(crate) mod erasures;
mod format;
pub(crate) mod list;
mod stream;
