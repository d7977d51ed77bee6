//! The token endpoint: an application exchanges its secret for an access token (RFC 6749 §4.4).

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use http::request::Parts;
use keyledger_engine::domain::application::Application;
use keyledger_engine::value::permission::Permission;
use serde::Serialize;
use utoipa::ToSchema;

use super::client;
use super::error::{ErrorBody, OAuthError};
use super::form::Form;
use super::keep_out_of_caches;
use crate::answer::problem::Problem;
use crate::auth::access_token;
use crate::auth::principal::Principal;
use crate::evidence::credential::Credential;
use crate::evidence::security_log::{Action, Place};
use crate::service::Service;

const GRANT_TYPE: &str = "client_credentials";

/// A request for an access token.
#[derive(ToSchema)]
#[schema(as = TokenRequest)]
#[allow(dead_code, reason = "describes the form; Form reads it")]
struct TokenRequest {
    /// `client_credentials`.
    #[schema(example = "client_credentials")]
    grant_type: String,
    /// The application's id, unless it is in `Authorization: Basic`.
    client_id: Option<String>,
    /// The application's secret, unless it is in `Authorization: Basic`.
    client_secret: Option<String>,
    /// Permissions, separated by spaces. Default: all permissions of the application.
    #[schema(example = "keys:verify")]
    scope: Option<String>,
    /// The issuer, or the issuer followed by `/api`. Default: the issuer.
    audience: Option<String>,
    /// Another name for `audience` (RFC 8707).
    resource: Option<String>,
}

/// An access token.
#[derive(Serialize, ToSchema)]
#[schema(as = AccessToken)]
struct TokenBody<'a> {
    /// The token: a signed JWT (RFC 9068).
    access_token: &'a str,
    /// `Bearer`.
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// The lifetime in seconds.
    #[schema(example = 900)]
    expires_in: u32,
    /// Its permissions, separated by spaces.
    scope: String,
}

/// Exchanges an application's secret for an access token. This writes no event; what the application does
/// with the token does. The token becomes invalid early if the application or its organization is deleted, or
/// if its secret is rotated.
#[utoipa::path(post, path = "/oauth2/token", operation_id = "token", tag = "OAuth 2.0",
    security((), ("client" = [])),
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = TokenBody, description = "the access token"),
        (status = 400, body = ErrorBody,
            description = "`invalid_request`, `unsupported_grant_type`, `invalid_scope`, `invalid_target`"),
        (status = 401, body = ErrorBody, description = "`invalid_client`"),
    ))]
pub(super) async fn token(
    State(service): State<Arc<Service>>,
    parts: Parts,
    form: Result<Form, OAuthError>,
) -> Result<Response, OAuthError> {
    let form = form?;
    match form.get("grant_type") {
        Some(GRANT_TYPE) => {}
        Some(_) => return Err(OAuthError::UnsupportedGrantType),
        None => return Err(OAuthError::InvalidRequest("grant_type is required")),
    }
    let place = Place::of(&service, &parts);
    let application = client::authenticate(&service, &parts.headers, &form, &place)?
        .ok_or(OAuthError::InvalidClient { in_header: parts.headers.contains_key(header::AUTHORIZATION) })?;
    let scope = scope_of(&application, form.get("scope"))?;
    let asked = match (form.get("audience"), form.get("resource")) {
        (Some(audience), Some(resource)) if audience != resource => return Err(OAuthError::InvalidTarget),
        (audience, resource) => audience.or(resource),
    };
    let audience = service.access_tokens.audience(asked).ok_or(OAuthError::InvalidTarget)?.to_owned();
    let now = service.now();
    let principal = Principal::of_application(&application, &scope, now);
    let issuing = {
        let (service, scope) = (Arc::clone(&service), scope.clone());
        move || -> Result<_, access_token::Error> {
            let keys = service.access_tokens.keys.with_current(now)?;
            Ok(service.access_tokens.issue(&keys, &application, &scope, &audience, now)?)
        }
    };
    let token = service.blocking(issuing).await?.map_err(|error| Problem::internal(&error))?;
    service.security_log.session(Action::IssueToken, &principal, Credential::ClientSecret, now, &place);
    let body = TokenBody {
        access_token: &token,
        token_type: "Bearer",
        expires_in: service.access_tokens.lifetime_seconds(),
        scope: Permission::to_scope(&scope),
    };
    let mut response = axum::Json(body).into_response();
    keep_out_of_caches(response.headers_mut());
    Ok(response)
}

/// Returns the permissions of a token: all permissions of the application, or the requested part of them.
fn scope_of(application: &Application, asked: Option<&str>) -> Result<Vec<Permission>, OAuthError> {
    let Some(asked) = asked else { return Ok(application.permissions.clone()) };
    let asked = Permission::of_scope(asked).map_err(|_| OAuthError::InvalidScope)?;
    let is_granted = asked.iter().all(|permission| permission.is_granted_by(&application.permissions));
    if is_granted && !asked.is_empty() { Ok(asked) } else { Err(OAuthError::InvalidScope) }
}
