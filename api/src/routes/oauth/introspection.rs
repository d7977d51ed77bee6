//! Introspection (RFC 7662): verification in the terms of OAuth 2.0, for tokens of keys and access tokens.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, header};
use keyledger_engine::value::id::KeyId;
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::beside_the_log::usage::Address;
use keyledger_projections::verification::{Code, Question, Verdict};
use serde::Serialize;
use utoipa::ToSchema;

use super::client;
use super::error::{ErrorBody, OAuthError};
use super::form::Form;
use crate::admission::class::Class;
use crate::answer::code::Code as ProblemCode;
use crate::answer::problem::Problem;
use crate::auth::access::INTROSPECTION;
use crate::auth::caller::{Caller, access_token_holder, admit, note_failure};
use crate::auth::principal::Principal;
use crate::evidence::security_log::Place;
use crate::request::precondition::reach_min_position;
use crate::routes::keys::verify::seen_by;
use crate::service::Service;

/// A token to introspect.
#[derive(ToSchema)]
#[schema(as = IntrospectionRequest)]
#[allow(dead_code, reason = "describes the form; Form reads it")]
struct IntrospectionRequest {
    /// The token of a key, or an access token.
    token: String,
    /// Ignored.
    token_type_hint: Option<String>,
}

/// The state of a token. An invalid token has only `active`.
#[derive(Serialize, ToSchema, Default)]
#[schema(as = Introspection)]
struct Introspection {
    /// Whether the token is valid.
    active: bool,
    /// Its scopes, separated by spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// The application of an access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    /// The subject: a key's user, or else its organization; the application of an access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    /// The audience of a key's API, or of an access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<String>,
    /// The issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    /// When it expires, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    /// When it was issued, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    /// The key's id, or the access token's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    /// The organization that the key belongs to, or that the application is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<String>,
    /// The environment in which the key is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<&'static str>,
    /// The API that the key is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_id: Option<String>,
}

/// Returns whether a token is valid. The caller needs `keys:verify`, and authenticates with a bearer token,
/// or as an application with its id and its secret.
#[utoipa::path(post, path = "/oauth2/introspect", operation_id = "introspect", tag = "OAuth 2.0",
    request_body(content = IntrospectionRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = Introspection, description = "the state of the token"),
        (status = 400, body = ErrorBody, description = "`invalid_request`"),
        (status = 401, description = "`invalid_client`, or `unauthenticated`"),
        (status = 403, description = "`forbidden`: the caller lacks `keys:verify`"),
    ))]
pub(super) async fn introspect(
    State(service): State<Arc<Service>>,
    caller: Result<Caller, Problem>,
    parts: http::request::Parts,
    form: Result<Form, OAuthError>,
) -> Result<Response, OAuthError> {
    let place = Place::of(&service, &parts);
    let from = place.ip;
    let client =
        form.as_ref().map_or(Ok(None), |form| client::authenticate(&service, &parts.headers, form, &place));
    let client = match client {
        Err(error @ OAuthError::InvalidClient { .. }) => {
            service.rate_limits.count_failure(from)?;
            return Err(error);
        }
        client => client?,
    };
    let principal = match client {
        Some(application) => {
            let permissions = &application.permissions;
            let principal =
                Principal::of_application(&application, permissions, Timestamp::from_millis(i64::MAX));
            service.rate_limits.count(&principal, Class::Verification, from)?;
            if let Err(problem) = admit(&principal, &Method::POST, INTROSPECTION) {
                let endpoint = (&Method::POST, INTROSPECTION);
                service.security_log.forbidden(&principal, endpoint, service.now(), &place);
                return Err(problem.into());
            }
            reach_min_position(&parts.headers, &service.index.watch()).await?;
            Arc::new(principal)
        }
        None => match caller {
            Ok(caller) => caller.principal,
            Err(problem) => {
                if problem.code == ProblemCode::Unauthenticated {
                    note_failure(&service, &parts.headers, service.now(), &place);
                    service.rate_limits.count_failure(from)?;
                }
                return Err(problem.into());
            }
        },
    };
    let form = form?;
    let token = form.get("token").ok_or(OAuthError::InvalidRequest("token is required"))?;
    let now = service.now();
    let body = of_access_token(&service, token, &principal, now).unwrap_or_else(|| {
        service.index.verify(token, &Question::default(), now, |verdict| {
            let from = Address::of(from);
            let verdict = seen_by(verdict, &principal);
            service.verified(&verdict, now, from);
            of_key(&service, &verdict)
        })
    });
    let mut response = Json(body).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn of_key(service: &Service, verdict: &Verdict<'_>) -> Introspection {
    let (Code::Valid, Some(key)) = (verdict.code, verdict.key) else { return Introspection::default() };
    let scopes: Vec<&str> = key.scopes().iter().map(|scope| scope.as_str()).collect();
    let api = key.api_id().and_then(|id| service.index.api(id));
    let owner =
        key.user_id().map_or_else(|| key.organization_id().to_string(), |user| user.as_str().to_owned());
    Introspection {
        active: true,
        scope: Some(scopes.join(" ")),
        token_type: Some("Bearer"),
        sub: Some(owner),
        aud: api.map(|api| api.audience.as_str().to_owned()),
        iss: Some(service.access_tokens.issuer().to_owned()),
        exp: key.expires_at().map(|end| end.millis() / 1_000),
        iat: Some(issued_at(key.key_id())),
        jti: Some(key.key_id().to_string()),
        organization_id: Some(key.organization_id().to_string()),
        environment: Some(key.environment().as_str()),
        api_id: key.api_id_text().map(str::to_owned),
        ..Introspection::default()
    }
}

/// Returns when a key's id was drawn. Its first 48 bits are milliseconds since 1970.
fn issued_at(key_id: KeyId) -> i64 {
    i64::try_from(key_id.to_u128() >> 80).unwrap_or(0) / 1_000
}

/// Returns the state of a valid access token, or `None` for any other text. A caller that is bound to an
/// organization sees only its applications. A caller that sees only its own keys sees none.
fn of_access_token(
    service: &Service,
    token: &str,
    caller: &Principal,
    now: Timestamp,
) -> Option<Introspection> {
    let (application, claims) = access_token_holder(service, token, now)?;
    let bound_to = caller.organization_id.as_ref();
    let is_elsewhere = bound_to.is_some() && application.organization_id.as_ref() != bound_to;
    if is_elsewhere || caller.user_id.is_some() {
        return Some(Introspection::default());
    }
    let allowed = Permission::in_both(&claims.scope, &application.permissions);
    Some(Introspection {
        active: true,
        scope: Some(Permission::to_scope(&allowed)),
        client_id: Some(application.id.to_string()),
        token_type: Some("Bearer"),
        sub: Some(application.id.to_string()),
        aud: Some(claims.audience.clone()),
        iss: Some(service.access_tokens.issuer().to_owned()),
        exp: Some(claims.expires_at.millis() / 1_000),
        iat: Some(claims.issued_at.millis() / 1_000),
        jti: Some(claims.id.clone()),
        organization_id: application.organization_id.as_ref().map(ToString::to_string),
        ..Introspection::default()
    })
}
