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

pub mod answer;
pub mod auth;
pub mod cli;
pub mod compat;
pub mod console;
pub mod http;
pub mod jobs;
pub mod openapi;
pub mod outbound;
pub mod request;
pub mod routes;
pub mod service;

/// The OpenAPI document as text, as it is served and as docs/openapi.json has it.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn reference_document() -> Result<String, serde_json::Error> {
    openapi::document_text(&routes::calls().1)
}
