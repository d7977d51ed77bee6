//! The HTTP interface itself: requests, validation, connections, TLS, Unix sockets, and the OpenAPI document.

pub(crate) mod answer_headers;
pub(crate) mod bad_input;
pub(crate) mod connection_limits;
pub(crate) mod connections;
pub(crate) mod malformed;
pub(crate) mod openapi;
pub(crate) mod requests;
pub(crate) mod slow_readers;
pub(crate) mod tls;
pub(crate) mod unix_socket;
