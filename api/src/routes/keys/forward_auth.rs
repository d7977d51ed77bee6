//! Forward authentication: a gateway asks about each request before it admits it.
//!
//! Gateways differ in how they use the answer, so the answer uses only what all of them understand: exactly
//! 200 admits a request. Every identity header is present, because a gateway may forward a client's own
//! header if one is missing. No gateway reads the body.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use keyledger_engine::value::environment::Environment;
use keyledger_projections::beside_the_log::usage::Address;
use keyledger_projections::verification::{Code as Verified, Question, Verdict, VerifiedKey};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::code::Code;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::{POSITION, position_value};
use crate::auth::caller::presented_token;
use crate::request::query::{FromQuery, QueryParameters};
use crate::service::Service;

const CODE: HeaderName = HeaderName::from_static("x-keyledger-code");
const KEY_ID: HeaderName = HeaderName::from_static("x-keyledger-key-id");
const ORGANIZATION_ID: HeaderName = HeaderName::from_static("x-keyledger-organization-id");
const OWNER: HeaderName = HeaderName::from_static("x-keyledger-owner");
const CLIENT_ORGANIZATION_ID: HeaderName = HeaderName::from_static("x-keyledger-client-organization-id");
const USER_ID: HeaderName = HeaderName::from_static("x-keyledger-user-id");
const ENVIRONMENT: HeaderName = HeaderName::from_static("x-keyledger-environment");
const SCOPES: HeaderName = HeaderName::from_static("x-keyledger-scopes");

/// Returns the endpoint for gateways, with every path below it.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    // OpenAPI has eight methods, but a gateway may use any other.
    let (schemas, paths, methods) = routes!(forward_auth);
    OpenApiRouter::new()
        .routes((schemas, paths, methods.fallback(forward_auth)))
        .route("/v1/forward-auth/", axum::routing::any(forward_auth_below))
        .route("/v1/forward-auth/{*rest}", axum::routing::any(forward_auth_below))
}

/// What a gateway requires of the key.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct AskedQuery {
    /// The environment that the key must be for.
    #[param(value_type = Option<String>)]
    environment: Option<Environment>,
    /// The API that the key must be for.
    api_id: Option<String>,
    /// The organization that the key must be valid for: its own; for a partner's key also any client in the
    /// portfolio. A client's key is valid only for its client, which must be given here.
    organization_id: Option<String>,
    /// Scopes that the key must carry, separated by spaces.
    scope: Option<String>,
    /// `403` turns every rejection other than 401 into 403, for nginx, which supports no other status.
    #[param(value_type = Option<String>)]
    deny: bool,
}

impl FromQuery for AskedQuery {
    fn from_query(parameters: &mut QueryParameters) -> Self {
        let deny = |text: &str| if text == "403" { Ok(()) } else { Err("must be 403") };
        Self {
            environment: parameters.parsed("environment"),
            api_id: parameters.text("api_id"),
            organization_id: parameters.text("organization_id"),
            scope: parameters.text("scope"),
            deny: parameters.read("deny", deny).is_some(),
        }
    }
}

/// What is required of the key, and by whom.
struct Asked {
    query: AskedQuery,
    /// The query may come from the client of the request in question instead of the gateway.
    is_below: bool,
}

impl Asked {
    fn read(parameters: &mut QueryParameters) -> Self {
        Self { query: AskedQuery::from_query(parameters), is_below: false }
    }

    /// Reads a query that may come from the request in question. Parameters that require more of the key
    /// always apply. Other parameters belong to the service behind the gateway.
    fn read_below(parameters: &mut QueryParameters) -> Self {
        let deny = parameters.has("deny", "403");
        let query = AskedQuery { deny, ..AskedQuery::from_query(parameters) };
        parameters.forget_others();
        Self { query, is_below: true }
    }

    /// Returns the verdict on the question. Only a gateway may say for which client a key is used.
    fn bounded<'a>(&self, verdict: Verdict<'a>) -> Verdict<'a> {
        if self.is_below && verdict.code == Verified::Valid && verdict.client_id.is_some() {
            return Verdict { code: Verified::WrongOrganization, ..verdict };
        }
        verdict
    }
}

/// Decides for a gateway whether to admit a request. It takes any method and any path below, and does not
/// read the body. The token is the request's own, in `Authorization: Bearer` or `x-api-key`. An invalid query
/// admits no request: the answer is 403 with the code `bad_query`.
///
/// The paths below are for gateways that append the path and the query of the request in question. There the
/// query may come from the client, so it can only require more of the key: `environment`, `api_id` and
/// `scope` apply as usual, `organization_id` must be the organization that the key belongs to, and other
/// parameters are ignored. A gateway that asks for a client organization, or whose services have parameters
/// with these names, uses the path itself.
#[utoipa::path(
    method(get, head, post, put, patch, delete, options), path = "/v1/forward-auth",
    operation_id = "forwardAuth", tag = "Verification",
    params(AskedQuery),
    security(()),
    responses(
        (status = 200, description = "admit the request",
            headers(
                ("X-Keyledger-Key-Id" = String, description = "the key"),
                ("X-Keyledger-Organization-Id" = String, description = "the organization it belongs to"),
                ("X-Keyledger-Owner" = String, description = "`organization`, `user`, `partner` or `client`"),
                ("X-Keyledger-Client-Organization-Id" = String,
                    description = "the client for which a partner's or client's key is used; empty if none"),
                ("X-Keyledger-User-Id" = String,
                    description = "percent-encoded: blanks, `%`, and all but printable ASCII; empty if none"),
                ("X-Keyledger-Environment" = String, description = "`preview` or `production`"),
                ("X-Keyledger-Scopes" = String, description = "separated by spaces"),
            )),
        (status = 401, description = "no token, or an invalid one; `X-Keyledger-Code` has the reason"),
        (status = 403,
            description = "a valid key for something else, or an invalid query; `X-Keyledger-Code` has the \
                reason"),
        (status = 503, body = ProblemBody, description = "`verification_unavailable`, `log_inconsistent`, `overloaded`"),
    ),
)]
async fn forward_auth(
    State(service): State<Arc<Service>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    mut parameters: QueryParameters,
) -> Response {
    let asked = Asked::read(&mut parameters);
    answer(&service, peer, &headers, &asked, parameters)
}

/// Does the same for a gateway that has appended the path and the query of the request in question.
async fn forward_auth_below(
    State(service): State<Arc<Service>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    mut parameters: QueryParameters,
) -> Response {
    let asked = Asked::read_below(&mut parameters);
    answer(&service, peer, &headers, &asked, parameters)
}

fn answer(
    service: &Service,
    peer: SocketAddr,
    headers: &HeaderMap,
    asked: &Asked,
    parameters: QueryParameters,
) -> Response {
    if let Err(Problem { errors, detail, .. }) = parameters.finish() {
        // Always 403: an invalid query must not admit a request, and nginx supports no other status.
        let mut response = Problem { errors, ..Problem::new(Code::BadQuery, detail) }.into_response();
        response.headers_mut().insert(CODE, HeaderValue::from_static("BAD_QUERY"));
        return response;
    }
    judge(service, peer, headers, asked).unwrap_or_else(|problem| {
        if asked.query.deny {
            refusal(problem.code.as_str(), StatusCode::FORBIDDEN)
        } else {
            problem.into_response()
        }
    })
}

/// Does not wait for a position: the index has everything that was answered, and the headers come from a
/// client, which could make the gateway wait for a position that never comes.
fn judge(
    service: &Service,
    peer: SocketAddr,
    headers: &HeaderMap,
    asked: &Asked,
) -> Result<Response, Problem> {
    service.inconsistency.check()?;
    if service.index.poisoned().is_some() {
        return Err(Problem::of(Code::VerificationUnavailable));
    }
    let Some(token) = presented_token(headers) else {
        return Ok(refusal("MISSING", StatusCode::UNAUTHORIZED));
    };
    let scopes: Vec<&str> =
        asked.query.scope.as_deref().unwrap_or_default().split_ascii_whitespace().collect();
    let question = Question {
        environment: asked.query.environment,
        organization_id: asked.query.organization_id.as_deref(),
        api_id: asked.query.api_id.as_deref(),
        scopes: &scopes,
    };
    let now = service.now();
    Ok(service.index.verify(token, &question, now, |verdict| {
        let verdict = asked.bounded(verdict);
        service.verified(
            &verdict,
            now,
            Address::of(Some(service.trusted_proxies.client(peer.ip(), headers))),
        );
        let mut response = match (verdict.code, verdict.key) {
            (Verified::Valid, Some(key)) => admission(key, verdict.client_id),
            (code, _) => refusal(code.as_str(), status_of(code)),
        };
        response.headers_mut().insert(POSITION, position_value(verdict.position));
        response
    }))
}

/// Returns 401 for a token without a key, and 403 for a key that is not active or is for something else.
const fn status_of(code: Verified) -> StatusCode {
    match code {
        Verified::Malformed | Verified::NotFound => StatusCode::UNAUTHORIZED,
        _ => StatusCode::FORBIDDEN,
    }
}

fn refusal(code: &'static str, status: StatusCode) -> Response {
    let mut response = status.into_response();
    let headers = response.headers_mut();
    headers.insert(CODE, HeaderValue::from_static(code));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        // RFC 6750 §3: no error code if no token was sent.
        let challenge = if code == "MISSING" {
            "Bearer realm=\"keyledger\""
        } else {
            "Bearer realm=\"keyledger\", error=\"invalid_token\""
        };
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

fn admission(key: &VerifiedKey, client_id: Option<&str>) -> Response {
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    let scopes: Vec<&str> = key.scopes().iter().map(|scope| scope.as_str()).collect();
    let user_id = key.user_id().map(|user_id| encoded(user_id.as_str())).unwrap_or_default();
    headers.insert(CODE, HeaderValue::from_static(Verified::Valid.as_str()));
    headers.insert(KEY_ID, value(&key.key_id().to_string()));
    headers.insert(ORGANIZATION_ID, value(key.organization_id().as_str()));
    headers.insert(OWNER, HeaderValue::from_static(key.owner().as_str()));
    headers.insert(CLIENT_ORGANIZATION_ID, value(client_id.unwrap_or_default()));
    headers.insert(USER_ID, value(&user_id));
    headers.insert(ENVIRONMENT, HeaderValue::from_static(key.environment().as_str()));
    headers.insert(SCOPES, value(&scopes.join(" ")));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Percent-encodes a user id: blanks, the percent sign, and characters that a header cannot have or would
/// lose at its ends.
fn encoded(text: &str) -> String {
    const KEPT_OUT: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b' ').add(b'%');
    percent_encoding::utf8_percent_encode(text, KEPT_OUT).to_string()
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::query::assert_documented_is_read;

    #[test]
    fn the_documented_query_is_read() {
        assert_documented_is_read::<AskedQuery>();
    }
}
