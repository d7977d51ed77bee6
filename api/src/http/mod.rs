//! The transport: addresses, TLS, connections and their limits, and the router.

pub(crate) mod answer_headers;
pub(crate) mod app;
pub(crate) mod completion;
pub(crate) mod connection;
pub(crate) mod fast_path;
pub(crate) mod listener;
pub(crate) mod log_gate;
pub(crate) mod request_id;
pub(crate) mod server;
pub(crate) mod stop;
pub(crate) mod tls;
