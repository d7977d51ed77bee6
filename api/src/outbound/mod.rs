//! Requests that the service sends.

pub mod http_client;
