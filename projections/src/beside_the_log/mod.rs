//! State that the log does not hold: usage and webhook deliveries. Neither is a projection.

pub mod deliveries;
pub mod usage;
