//! Endpoints about webhooks and their deliveries.

pub mod deliveries;
pub mod webhook;
