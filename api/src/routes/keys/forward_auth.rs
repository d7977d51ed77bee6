//! Forward authentication: a gateway asks about each request that it is about to let through.
//!
//! What gateways do with the answer differs, so the answer keeps to what all of them understand: exactly 200 to let a
//! request on, with every identity header present, as a gateway may pass on a client's own header where one is missing;
//! and a body that is never read.

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

use crate::answer::problem::{Code, Problem, ProblemBody};
use crate::auth::caller::presented_token;
use crate::request::precondition::{POSITION, position_value};
use crate::request::query::QueryParameters;
use crate::service::Service;

const CODE: HeaderName = HeaderName::from_static("x-keyledger-code");
const KEY_ID: HeaderName = HeaderName::from_static("x-keyledger-key-id");
const ORGANIZATION_ID: HeaderName = HeaderName::from_static("x-keyledger-organization-id");
const OWNER: HeaderName = HeaderName::from_static("x-keyledger-owner");
const CLIENT_ORGANIZATION_ID: HeaderName = HeaderName::from_static("x-keyledger-client-organization-id");
const USER_ID: HeaderName = HeaderName::from_static("x-keyledger-user-id");
const ENVIRONMENT: HeaderName = HeaderName::from_static("x-keyledger-environment");
const SCOPES: HeaderName = HeaderName::from_static("x-keyledger-scopes");

/// The call for gateways, with anything after its path.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    // The document knows eight methods; a gateway may ask with any.
    let (schemas, paths, methods) = routes!(forward_auth);
    OpenApiRouter::new()
        .routes((schemas, paths, methods.fallback(forward_auth)))
        .route("/v1/forward-auth/", axum::routing::any(forward_auth_below))
        .route("/v1/forward-auth/{*rest}", axum::routing::any(forward_auth_below))
}

/// What the key must be good for. It describes the parameters; [`Asked`] reads them.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
struct AskedQuery {
    /// The environment that the key must be for.
    environment: Option<String>,
    /// The API that the key must be for.
    api_id: Option<String>,
    /// The organization that the key must be good for: its own; for a partner's key also any client in the portfolio; for
    /// a client's key that client, which must be asked for.
    organization_id: Option<String>,
    /// Scopes that the key must carry, with spaces between them.
    scope: Option<String>,
    /// `403` answers every refusal but 401 as 403, for nginx, which knows no others.
    deny: Option<String>,
}

/// What the key must be good for, as a gateway has asked it.
struct Asked {
    environment: Option<Environment>,
    api_id: Option<String>,
    organization_id: Option<String>,
    scope: String,
    /// Every refusal but 401 is to be a 403.
    folds: bool,
    /// Whoever sent the request may have asked, and not the gateway.
    is_below: bool,
}

impl Asked {
    fn read(parameters: &mut QueryParameters) -> Self {
        Self {
            environment: parameters.parsed("environment"),
            api_id: parameters.text("api_id"),
            organization_id: parameters.text("organization_id"),
            scope: parameters.text("scope").unwrap_or_default(),
            folds: parameters
                .read("deny", |text| if text == "403" { Ok(()) } else { Err("must be 403") })
                .is_some(),
            is_below: false,
        }
    }

    /// What a query asks that the gateway may have taken from the request which it asks about. What demands more of the key
    /// is asked whoever said it; the rest is left to whom it is for.
    fn read_below(parameters: &mut QueryParameters) -> Self {
        let folds = parameters.says("deny", "403");
        let asked = Self { folds, is_below: true, ..Self::read(parameters) };
        parameters.forget_others();
        asked
    }

    /// The verdict as far as whoever asked may have it: only a gateway says for which client a key comes.
    fn bounded<'a>(&self, verdict: Verdict<'a>) -> Verdict<'a> {
        if self.is_below && verdict.code == Verified::Valid && verdict.client_id.is_some() {
            return Verdict { code: Verified::WrongOrganization, ..verdict };
        }
        verdict
    }
}

/// Says to a gateway whether to let a request on. Any method, any path below, and the body is not read; the token is
/// the request's own, in `Authorization: Bearer` or `x-api-key`. A question that cannot be read lets nobody on: it is
/// answered 403 with the code `bad_query`.
///
/// Below the path are those gateways that append the path and the query of the request which they ask about. There the
/// query may be the client's own, so it can only ask for more, never have a key let on that would not be otherwise:
/// `environment`, `api_id` and `scope` are demanded of the key as ever, `organization_id` must be the one that the key
/// belongs to, and other parameters are left to whom they are for. A gateway that asks for a client organization, or
/// whose services have parameters of these names, asks at the path itself.
#[utoipa::path(method(get, head, post, put, patch, delete, options), path = "/v1/forward-auth", operation_id = "forwardAuth", tag = "Verification", params(AskedQuery), security(()),
    responses(
        (status = 200, description = "let it on",
            headers(
                ("X-Keyledger-Key-Id" = String, description = "the key"),
                ("X-Keyledger-Organization-Id" = String, description = "the organization it belongs to"),
                ("X-Keyledger-Owner" = String, description = "`organization`, `user`, `partner` or `client`"),
                ("X-Keyledger-Client-Organization-Id" = String, description = "the client that a partner's or client's key was asked for; empty for none"),
                ("X-Keyledger-User-Id" = String, description = "percent-encoded: blanks, `%`, and all but printable ASCII; empty for none"),
                ("X-Keyledger-Environment" = String, description = "`preview` or `production`"),
                ("X-Keyledger-Scopes" = String, description = "with spaces between them"),
            )),
        (status = 401, description = "no token, or one that is not valid at all; `X-Keyledger-Code` says why"),
        (status = 403, description = "a valid key for something else, or a question that cannot be read; `X-Keyledger-Code` says why"),
        (status = 503, body = ProblemBody, description = "`verification_unavailable`, `overloaded`"),
    ))]
async fn forward_auth(
    State(service): State<Arc<Service>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    mut parameters: QueryParameters,
) -> Response {
    let asked = Asked::read(&mut parameters);
    answer(&service, peer, &headers, &asked, parameters)
}

/// The same where the gateway has added the path and the query of the request that it asks about.
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
        // 403 even where nobody asked for it: what cannot be read must not let anybody on, and nginx knows no other.
        let mut response = Problem { code: Code::BadQuery, detail, errors }.into_response();
        response.headers_mut().insert(CODE, HeaderValue::from_static("BAD_QUERY"));
        return response;
    }
    judge(service, peer, headers, asked).unwrap_or_else(|problem| {
        if asked.folds {
            refusal(problem.code.as_str(), StatusCode::FORBIDDEN)
        } else {
            problem.into_response()
        }
    })
}

/// Waits for no position: the index knows all that was answered, and the headers are those of a client, who could have the
/// gateway wait for a position that does not come.
fn judge(
    service: &Service,
    peer: SocketAddr,
    headers: &HeaderMap,
    asked: &Asked,
) -> Result<Response, Problem> {
    if service.index.poisoned().is_some() {
        return Err(Problem::of(Code::VerificationUnavailable));
    }
    let Some(token) = presented_token(headers) else {
        return Ok(refusal("MISSING", StatusCode::UNAUTHORIZED));
    };
    let scopes: Vec<&str> = asked.scope.split_ascii_whitespace().collect();
    let question = Question {
        environment: asked.environment,
        organization_id: asked.organization_id.as_deref(),
        api_id: asked.api_id.as_deref(),
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

/// 401 for a token that is good for nobody, 403 for a key that is stopped, or good for something else.
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
        // RFC 6750 §3: no error word where no token came.
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

/// A user's id may hold what a header may not, or would lose at its ends: such characters, blanks, and the percent sign are
/// percent-encoded.
fn encoded(text: &str) -> String {
    const KEPT_OUT: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b' ').add(b'%');
    percent_encoding::utf8_percent_encode(text, KEPT_OUT).to_string()
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
