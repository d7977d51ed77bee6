//! OAuth 2.0 for machines: access tokens for applications, introspection, and discovery.

mod client;
mod error;
mod form;
mod introspection;
mod metadata;
mod token;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::service::Service;

/// Returns the endpoints of OAuth 2.0.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(token::token))
        .routes(routes!(introspection::introspect))
        .routes(routes!(metadata::authorization_server))
        .routes(routes!(metadata::jwks))
}

/// Adds the headers of every answer of the token endpoint, also for HTTP/1.0 caches (RFC 6749 §5.1).
fn keep_out_of_caches(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
}
