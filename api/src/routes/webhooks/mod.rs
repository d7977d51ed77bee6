//! Endpoints about webhooks and their deliveries.

pub(crate) mod deliveries;
pub(crate) mod webhook;
