//! Discovery for clients and resource servers: the authorization server's metadata (RFC 8414) and its public
//! keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use keyledger_engine::value::permission::Permission;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::answer::problem::Problem;
use crate::auth::signing_keys::ALGORITHM;
use crate::service::Service;

/// How long clients may cache both documents.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// The authorization server's metadata.
#[derive(Serialize, ToSchema)]
#[schema(as = AuthorizationServer)]
struct AuthorizationServer {
    /// The issuer of the tokens: the service's public address.
    #[schema(example = "http://127.0.0.1:7070")]
    issuer: String,
    /// The token endpoint.
    token_endpoint: String,
    /// The introspection endpoint.
    introspection_endpoint: String,
    /// How an application can authenticate at the introspection endpoint. A bearer token is accepted, too.
    introspection_endpoint_auth_methods_supported: [&'static str; 2],
    /// The address of the public keys.
    jwks_uri: String,
    /// The permissions that a token can have.
    scopes_supported: Vec<&'static str>,
    /// Empty: there is no interactive sign-in.
    response_types_supported: [&'static str; 0],
    /// `client_credentials`.
    grant_types_supported: [&'static str; 1],
    /// How an application can authenticate at the token endpoint.
    token_endpoint_auth_methods_supported: [&'static str; 2],
    /// The algorithm that signs access tokens.
    access_token_signing_alg_values_supported: [String; 1],
    /// The address of the API reference.
    service_documentation: String,
}

/// Returns the authorization server's metadata (RFC 8414).
#[utoipa::path(get, path = "/.well-known/oauth-authorization-server", operation_id = "authorizationServer",
    tag = "OAuth 2.0", security(()),
    responses((status = 200, body = AuthorizationServer, description = "the metadata")))]
pub(super) async fn authorization_server(State(service): State<Arc<Service>>) -> Response {
    let issuer = service.access_tokens.issuer();
    let metadata = AuthorizationServer {
        issuer: issuer.into(),
        token_endpoint: format!("{issuer}/oauth2/token"),
        introspection_endpoint: format!("{issuer}/oauth2/introspect"),
        introspection_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
        jwks_uri: format!("{issuer}/.well-known/jwks.json"),
        scopes_supported: Permission::names().collect(),
        response_types_supported: [],
        grant_types_supported: ["client_credentials"],
        token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
        access_token_signing_alg_values_supported: [format!("{ALGORITHM:?}")],
        service_documentation: format!("{issuer}/docs"),
    };
    ([(header::CACHE_CONTROL, CACHE)], Json(metadata)).into_response()
}

/// Public keys.
#[derive(ToSchema)]
#[schema(as = JsonWebKeys)]
#[allow(dead_code, reason = "describes what the library writes")]
struct JsonWebKeys {
    /// The keys (RFC 7517 §5). The first one is the current signing key.
    #[schema(value_type = Vec<Object>)]
    keys: Value,
}

/// Returns the public keys that verify access tokens, including the previous one while its tokens may still
/// be valid.
#[utoipa::path(get, path = "/.well-known/jwks.json", operation_id = "jwks", tag = "OAuth 2.0", security(()),
    responses((status = 200, body = JsonWebKeys, description = "the keys")))]
pub(super) async fn jwks(State(service): State<Arc<Service>>) -> Result<Response, Problem> {
    let now = service.now();
    let keys = {
        let service = Arc::clone(&service);
        service.clone().blocking(move || service.access_tokens.keys.with_current(now)).await?
    };
    let keys = keys.map_err(|error| Problem::internal(&error))?;
    Ok(([(header::CACHE_CONTROL, CACHE)], Json(keys.jwks())).into_response())
}
