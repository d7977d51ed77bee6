//! Keyledger's HTTP interface: a thin layer that turns requests into commands and queries.
//!
//! * [`service`]: everything put together, from a data directory.
//! * [`server`] and [`connection`]: connections, their bounds, and the outermost layer of every answer.
//! * [`activity`] and [`refusal`]: what passes over a connection, and what the HTTP library refuses there by itself.
//! * [`tls`]: the certificate, and the handshake that comes first.
//! * [`fast_path`]: the plain verification and the plain creation of a key, answered ahead of all that.
//! * [`app`] and [`routes`]: the calls.
//! * [`access`]: who may make which call.
//! * [`principal`], [`origin`], [`access_token`], [`signing_keys`], [`session_cookie`], [`oidc`]: who calls, from where, and how
//!   they prove it.
//! * [`console`] and [`console_session`]: the pages for people, made of the same calls.
//! * [`compat`]: the calls of other key services, translated.
//! * [`caller`], [`body`], [`json_text`], [`query`], [`precondition`], [`idempotency`], [`issuing`]: what calls share.
//! * [`problem`]: every error's status and code.
//! * [`log_signer`] and [`witness`]: sign what the log was, for others to check, and have it cosigned by those who watch.
//! * [`http_client`]: asks the services that the operator has named.
//! * [`webhooks`]: pushes events to receivers outside.
//! * [`housekeeper`]: what Keyledger does without being asked.

pub mod access;
pub mod access_token;
pub mod activity;
pub mod app;
pub mod body;
pub mod caller;
pub mod command;
pub mod compat;
pub mod connection;
pub mod console;
pub mod console_session;
pub mod credential;
pub mod data_directory;
pub mod duration;
pub mod entity_tag;
pub mod event_stream;
pub mod fast_path;
pub mod housekeeper;
pub mod http_client;
pub mod idempotency;
pub mod index_snapshot;
pub mod issuing;
pub mod json_text;
pub mod listener;
pub mod log_signer;
pub mod log_verification;
pub mod logging;
pub mod metrics;
pub mod oidc;
pub mod origin;
pub mod paging;
pub mod precondition;
pub mod principal;
pub mod problem;
pub mod query;
pub mod refusal;
pub mod reply;
pub mod request_id;
pub mod routes;
pub mod server;
pub mod service;
pub mod session_cookie;
pub mod signing_keys;
pub mod tls;
pub mod view;
pub mod webhooks;
pub mod witness;

/// The OpenAPI document as text, as it is served and as docs/openapi.json has it.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn reference_document() -> Result<String, serde_json::Error> {
    routes::reference::document_text(&app::calls().1)
}
