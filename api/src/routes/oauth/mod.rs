//! OAuth 2.0 for machines: access tokens for applications, and what clients and resource servers discover by themselves.

mod client;
mod error;
mod form;
mod introspection;
mod metadata;
mod token;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::service::Service;

/// The calls of OAuth 2.0.
pub fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(token::token))
        .routes(routes!(introspection::introspect))
        .routes(routes!(metadata::authorization_server))
        .routes(routes!(metadata::jwks))
}
