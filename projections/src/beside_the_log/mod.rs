//! State that is not in the log and cannot be rebuilt from it: usage, the last use of
//! callers, and webhook deliveries.

pub mod deliveries;
pub mod last_use;
pub mod usage;
