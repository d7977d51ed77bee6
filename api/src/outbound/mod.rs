//! Requests that the service sends.

pub(crate) mod http_client;
