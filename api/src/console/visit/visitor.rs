//! The signed-in visitor of a page, and the API requests that the page makes for them.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use keyledger_engine::value::actor::ActorKind;
use keyledger_engine::value::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::answer::problem::Problem;
use crate::answer::reply::POSITION;
use crate::auth::caller::{Admitted, admit, session_holder};
use crate::auth::grant::Grant;
use crate::auth::principal::Principal;
use crate::auth::session_cookie::csrf_token;
use crate::auth::session_use::Visit;
use crate::http::request_id::RequestId;
use crate::request::idempotency;
use crate::request::precondition::MIN_POSITION;
use crate::service::Service;

use super::notice::Notice;
use super::theme::Theme;
use crate::console::parts::form::Form;
use crate::console::parts::query_string::encoded;
use crate::console::state::Console;

/// Marks a request of the console's own scripts, which render the response and follow redirects themselves.
pub(crate) const BY_SCRIPT: HeaderName = HeaderName::from_static("console-script");
/// Tells such a script where to navigate.
pub(crate) const GO_TO: HeaderName = HeaderName::from_static("console-location");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const REFRESH: HeaderName = HeaderName::from_static("refresh");
/// Headers copied to API requests: the request's origin, and how current its reads must be.
const HEADERS_PASSED_ON: [HeaderName; 5] = [
    MIN_POSITION,
    header::USER_AGENT,
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    crate::http::request_id::HEADER,
];

/// A signed-in visitor. A handler that takes one redirects everyone else to the sign-in page.
#[derive(Clone)]
pub(crate) struct Visitor {
    /// Private to this module, so that pages reach data through the API only.
    pub(super) service: Arc<Service>,
    /// The visitor's identity and permissions.
    pub principal: Arc<Principal>,
    /// The token that the visitor's forms must carry.
    pub csrf_token: String,
    pub theme: Theme,
    /// The requested path and query.
    pub address: String,
    /// What the previous page left to show.
    pub notice: Option<Notice>,
    /// Whether a script sent the request and will show only part of the page.
    pub by_script: bool,
    /// The time of the request.
    pub now: Timestamp,
    secret: Arc<Zeroizing<String>>,
    api: axum::Router,
    source: Source,
}

/// The origin of a request, which API requests made for it share.
#[derive(Clone)]
struct Source {
    headers: HeaderMap,
    peer: Option<axum::extract::ConnectInfo<std::net::SocketAddr>>,
    request_id: RequestId,
}

pub(crate) fn request_id(parts: &Parts) -> RequestId {
    parts.extensions.get::<RequestId>().cloned().unwrap_or_default()
}

impl Visitor {
    /// Identifies the sender of a request from the session cookie.
    pub(crate) fn find(console: &Console, parts: &Parts) -> Option<Self> {
        let service = &console.service;
        let secret = service.session_cookie.read(&parts.headers)?;
        let principal = session_holder(service, secret, Visit::of(&parts.headers))?;
        let headers = HEADERS_PASSED_ON.into_iter().filter_map(|name| {
            let value = parts.headers.get(&name)?.clone();
            Some((name, value))
        });
        Some(Self {
            service: Arc::clone(service),
            principal,
            csrf_token: csrf_token(secret),
            theme: Theme::of(&parts.headers),
            address: parts.uri.path_and_query().map_or("/console", |it| it.as_str()).into(),
            notice: Notice::read(&parts.headers),
            by_script: parts.headers.contains_key(BY_SCRIPT),
            now: service.now(),
            secret: Arc::new(Zeroizing::new(secret.into())),
            api: console.api.clone(),
            source: Source {
                headers: headers.collect(),
                peer: parts.extensions.get().copied(),
                request_id: request_id(parts),
            },
        })
    }

    /// Returns the secret of the visitor's session.
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    /// Returns whether the session began with a portal link.
    pub(crate) fn is_from_portal(&self) -> bool {
        self.principal.kind == ActorKind::PortalSession
    }

    /// Returns whether the access table admits the visitor to an endpoint. `path` is written as in the
    /// OpenAPI document.
    pub(crate) fn may(&self, method: &Method, path: &str) -> bool {
        self.require(method, path).is_ok()
    }

    /// Admits the visitor to a form only if they may use the endpoint that it leads to.
    ///
    /// # Errors
    /// `forbidden`, naming the missing permission.
    pub(crate) fn require(&self, method: &Method, path: &str) -> Result<(), Problem> {
        admit(&self.principal, method, path)
    }

    /// Returns whether the visitor may hand on these rights, or change a credential that has them.
    pub(crate) fn may_grant(&self, grant: Grant<'_>) -> bool {
        grant.check(&self.principal).is_ok()
    }

    /// Sends a GET request for the visitor.
    ///
    /// # Errors
    /// The problem that the API returns.
    pub(crate) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        self.call(Method::GET, path).send().await.map(|answer| answer.body)
    }

    /// Begins an API request for the visitor.
    pub(crate) fn call(&self, method: Method, path: impl Into<String>) -> Call<'_> {
        Call { visitor: self, method, path: path.into(), headers: HeaderMap::new(), body: None }
    }

    /// Redirects to another page after a form was handled, and leaves a notice for it.
    pub(crate) fn go_to(&self, path: &str, notice: &Notice) -> Response {
        let mut response = if self.by_script {
            let mut response = StatusCode::OK.into_response();
            if let Ok(path) = HeaderValue::from_str(path) {
                response.headers_mut().insert(GO_TO, path);
            }
            response
        } else {
            Redirect::to(path).into_response()
        };
        notice.keep(response.headers_mut());
        response
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        match parts.extensions.get::<Self>() {
            Some(visitor) => Ok(visitor.clone()),
            None => Err(sign_in_first(parts)),
        }
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

fn sign_in_first(parts: &Parts) -> Response {
    // A browser that follows a link on another site withholds the `SameSite=Strict` cookie; it sends it when
    // this page reloads.
    let is_from_elsewhere =
        parts.headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "cross-site" || site == "same-site");
    if parts.method == Method::GET && is_from_elsewhere {
        let refresh = [(REFRESH, HeaderValue::from_static("0"))];
        let html = "<!doctype html><html lang=\"en\"><title>Keyledger</title><p>Loading…</p></html>";
        return (refresh, Html(html)).into_response();
    }
    let to = parts.uri.path_and_query().map_or("/console", |it| it.as_str());
    let path = match parts.method {
        Method::GET if to != "/console" => format!("/console/sign-in?to={}", encoded(to)),
        _ => "/console/sign-in".into(),
    };
    if !parts.headers.contains_key(BY_SCRIPT) {
        return Redirect::to(&path).into_response();
    }
    let mut response = StatusCode::OK.into_response();
    if let Ok(path) = HeaderValue::from_str(&path) {
        response.headers_mut().insert(GO_TO, path);
    }
    response
}

/// An API request under construction.
pub(crate) struct Call<'a> {
    visitor: &'a Visitor,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

/// A successful API response.
pub(crate) struct Answer<T> {
    pub body: T,
    /// The log position that the response is based on, or that the change was appended at.
    pub position: Option<u64>,
}

impl Call<'_> {
    /// Sets a JSON body.
    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        self.body = serde_json::to_vec(body).ok();
        self.header(header::CONTENT_TYPE, "application/json")
    }

    /// Adds a header. A value that is not a valid header value is dropped.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Makes the change conditional on the version that the form was opened with (`If-Match`).
    pub(crate) fn if_match(self, form: &Form) -> Self {
        self.header(header::IF_MATCH, &format!("\"{}\"", form.text("version").trim()))
    }

    /// Uses the form's request name as idempotency key, so that a form submitted twice takes effect once.
    pub(crate) fn named(self, form: &Form) -> Self {
        let name = form.filled("request").unwrap_or("none");
        self.header(idempotency::HEADER, name)
    }

    /// Sends the request.
    ///
    /// # Errors
    /// The problem that the API returns.
    pub(crate) async fn send<T: DeserializeOwned>(self) -> Result<Answer<T>, Problem> {
        let response = succeeded(self.respond().await?)?;
        let position = response.headers().get(POSITION).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Answer { body: read_json(response).await?, position })
    }

    /// Sends a request whose 503 response carries the same body as its 200 (readiness).
    ///
    /// # Errors
    /// The problem that the API returns.
    pub(crate) async fn report<T: DeserializeOwned>(self) -> Result<T, Problem> {
        read_json(self.respond().await?).await
    }

    /// Sends a request whose response is plain text.
    ///
    /// # Errors
    /// The problem that the API returns.
    pub(crate) async fn text(self) -> Result<String, Problem> {
        let bytes = read(succeeded(self.respond().await?)?).await?;
        String::from_utf8(bytes.into()).map_err(|error| Problem::internal(&error))
    }

    async fn respond(self) -> Result<Response, Problem> {
        let Self { visitor, method, path, headers, body } = self;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::from(body.unwrap_or_default()))
            .map_err(|_| Problem::of(crate::answer::code::Code::NotFound))?;
        request.headers_mut().extend(visitor.source.headers.clone());
        request.headers_mut().extend(headers);
        if let Some(position) = visitor.notice.as_ref().and_then(|notice| notice.position) {
            request.headers_mut().insert(MIN_POSITION, position.into());
        }
        let extensions = request.extensions_mut();
        extensions.insert(Admitted(Arc::clone(&visitor.principal)));
        extensions.insert(visitor.source.request_id.clone());
        if let Some(peer) = visitor.source.peer {
            extensions.insert(peer);
        }
        let mut response = match tower::ServiceExt::oneshot(visitor.api.clone(), request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            return Err(problem);
        }
        Ok(response)
    }
}

fn succeeded(response: Response) -> Result<Response, Problem> {
    if response.status().is_success() {
        return Ok(response);
    }
    Err(Problem::internal(&format!("the API answered a console request with status {}", response.status())))
}

async fn read(response: Response) -> Result<bytes::Bytes, Problem> {
    let body = response.into_body().collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| Problem::internal(&error))
}

async fn read_json<T: DeserializeOwned>(response: Response) -> Result<T, Problem> {
    let bytes = read(response).await?;
    // An empty response reads as `null`, which deserializes into `()`.
    let text = if bytes.is_empty() { b"null".as_slice() } else { &bytes };
    serde_json::from_slice(text).map_err(|error| Problem::internal(&error))
}
