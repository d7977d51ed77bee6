//! The transport: addresses, TLS, connections and their bounds, and the router.

pub mod activity;
pub mod app;
pub mod connection;
pub mod fast_path;
pub mod hyper_refusal;
pub mod listener;
pub mod request_id;
pub mod server;
pub mod tls;
