//! Requests that the service sends.

pub(crate) mod connector;
pub(crate) mod http_client;
