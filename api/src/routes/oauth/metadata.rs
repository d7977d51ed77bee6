//! What clients and resource servers discover: the authorization server's metadata (RFC 8414) and its public
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

/// Clients may keep it for this long.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// The authorization server's metadata.
#[derive(Serialize, ToSchema)]
#[schema(as = AuthorizationServer)]
struct AuthorizationServer {
    /// Who issues the tokens: where the service is reached.
    #[schema(example = "http://127.0.0.1:7070")]
    issuer: String,
    /// Where access tokens are got.
    token_endpoint: String,
    /// Where tokens are asked about.
    introspection_endpoint: String,
    /// How an application may show its secret there; a bearer token is good there too.
    introspection_endpoint_auth_methods_supported: [&'static str; 2],
    /// Where the public keys are.
    jwks_uri: String,
    /// What a token may be got for.
    scopes_supported: Vec<&'static str>,
    /// None: nobody is asked to sign in.
    response_types_supported: [&'static str; 0],
    /// `client_credentials`.
    grant_types_supported: [&'static str; 1],
    /// How an application may show its secret.
    token_endpoint_auth_methods_supported: [&'static str; 2],
    /// How access tokens are signed.
    access_token_signing_alg_values_supported: [String; 1],
    /// The reference.
    service_documentation: String,
}

/// Says where everything is (RFC 8414).
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
    /// The keys, the one that signs now first (RFC 7517 §5).
    #[schema(value_type = Vec<Object>)]
    keys: Value,
}

/// The public keys that access tokens are checked with; also the one before, as long as tokens that it signed
/// can be alive.
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
