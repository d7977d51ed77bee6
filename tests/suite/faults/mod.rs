//! Crashes, damaged files and interrupted work.

pub(crate) mod crash;
pub(crate) mod damaged_data;
pub(crate) mod forge;
pub(crate) mod interruptions;
