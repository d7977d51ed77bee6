//! State that is not in the log and cannot be rebuilt from it: usage and webhook deliveries.

pub mod deliveries;
pub mod usage;
