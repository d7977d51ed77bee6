//! Clients of other services, and gateways.

pub(crate) mod gateway;
pub(crate) mod kinde;
pub(crate) mod kintsugi;
