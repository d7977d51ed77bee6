//! The console: everything that a person does with keys, as pages.
//!
//! It is a client of the calls that everybody else makes, in the same process ([`visitor`]): a page reads and changes
//! nothing but by such a call, on behalf of whoever is signed in. So what a role may do, what a field may hold and what an
//! error says is decided in one place (docs/decisions/console.md).
//!
//! * [`visitor`]: who is signed in, and the calls that are made for them.
//! * [`submission`]: a form that was sent, which only a page of this service can have done.
//! * [`frame`]: what every page has around it; [`navigation`], [`toast`], [`theme`], [`asset`] are its parts.
//! * [`moment`], [`icon`], [`badge`], [`marked`], [`tags`]: how times, signs, words with a shape, search results and many
//!   words look.
//! * [`list_page`] with its [`table`], [`form_page`] with its [`field`]s, [`secret_page`]: pages that many things share.
//! * [`sign_in`], and a file for each page.

pub(crate) mod audit;
pub(crate) mod callers;
pub(crate) mod frame;
pub(crate) mod keys;
pub(crate) mod overview;
pub(crate) mod parts;
pub(crate) mod tenants;
pub(crate) mod visit;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use http::{HeaderName, HeaderValue, header};

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::service::Service;

use self::frame::{asset, navigation, page_frame, theme};
use self::visit::openid_sign_in;
use self::visit::visitor::{self, Visitor};

/// What all pages share.
pub(crate) struct Console {
    service: Arc<Service>,
    /// The calls that pages are made of.
    calls: Router,
    /// Who is at the OpenID provider just now, to sign in.
    pending: openid_sign_in::Pending,
}

/// Nothing is loaded from elsewhere, nothing that stands in a page itself runs or styles, no frame shows a page, and no other
/// page has a hand on its window.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=()"),
    ),
];

/// The pages. `calls` is what the service answers to everybody.
pub(crate) fn router(service: Arc<Service>, calls: Router<Arc<Service>>) -> Router {
    let calls = calls.with_state(Arc::clone(&service));
    let console = Arc::new(Console { service, calls, pending: openid_sign_in::Pending::default() });
    Router::new()
        .route("/", get(|| async { Redirect::to("/console") }))
        .route("/console", get(home))
        .merge(visit::router())
        .merge(audit::router())
        .merge(overview::router())
        .merge(keys::router())
        .merge(tenants::router())
        .merge(callers::router())
        .route("/console/theme", post(theme::choose))
        .route("/console/{*rest}", get(|| async { Problem::of(Code::NotFound) }))
        .layer(middleware::from_fn_with_state(Arc::clone(&console), around))
        // Beside the layer: files are the same for everybody, and are kept by browsers.
        .route("/console/assets/{version}/{name}", get(asset::serve))
        .with_state(console)
}

/// Leads to the first page that somebody may see.
async fn home(visitor: Visitor) -> Result<Redirect, Problem> {
    navigation::first(&visitor).map(Redirect::to).ok_or_else(|| {
        Problem::new(
            Code::Forbidden,
            "you may do nothing that has a page here; sign in with another root key",
        )
    })
}

/// Finds out who is signed in, shows problems as pages, and adds what every page is protected by.
async fn around(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let visitor = Visitor::find(&console, &parts);
    if let Some(visitor) = &visitor {
        parts.extensions.insert(visitor.clone());
    }
    let request_id = visitor::request_id(&parts);
    let theme = theme::Theme::of(&parts.headers);
    let mut response = next.run(Request::from_parts(parts, body)).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response =
            page_frame::problem_page(visitor.as_ref(), theme, problem, &request_id).await.into_response();
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
