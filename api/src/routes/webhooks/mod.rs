//! Endpoints about webhooks and their deliveries.

pub(crate) mod deliveries;
mod view;
pub(crate) mod webhook;
