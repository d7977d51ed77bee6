//! The web console: everything people do with keys, as HTML pages.
//!
//! The console is a client of the HTTP API in the same process ([`visitor`]). A page reads and changes data
//! only through API requests made for the signed-in visitor, so permissions, field rules and error texts are
//! decided in one place (docs/decisions/console.md).
//!
//! From the bottom up:
//!
//! * [`parts`]: building blocks such as fields, tables, badges and times. They know no visitor.
//! * [`visit`]: the signed-in visitor, the forms they submit, their theme and the notice on their next page.
//! * [`frame`]: what surrounds a page, and the page kinds that several folders fill in (list, form, secret).
//! * [`sign_in`], [`tenants`], [`audit`], [`keys`], [`callers`], [`overview`]: the pages, each folder with
//!   its routes.

pub(crate) mod audit;
pub(crate) mod callers;
pub(crate) mod frame;
pub(crate) mod keys;
pub(crate) mod overview;
pub(crate) mod parts;
pub(crate) mod sign_in;
pub(crate) mod state;
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

use self::frame::{asset, navigation, page_frame};
use self::parts::query_string::safe_path;
use self::sign_in::pending::Pending;
use self::state::Console;
use self::visit::notice::Notice;
use self::visit::submission::Submission;
use self::visit::theme::Theme;
use self::visit::visitor::{self, Visitor};

/// Pages load resources from this origin only, run no inline script or style, cannot be framed, and share no
/// window with other origins.
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

/// The console's pages. They call `api`, the routes of the HTTP API, in process.
pub(crate) fn router(service: Arc<Service>, api: Router<Arc<Service>>) -> Router {
    let api = api.with_state(Arc::clone(&service));
    let console = Arc::new(Console { service, api, pending: Pending::default() });
    Router::new()
        .route("/", get(|| async { Redirect::to("/console") }))
        .route("/console", get(home))
        .merge(sign_in::router())
        .merge(audit::router())
        .merge(overview::router())
        .merge(keys::router())
        .merge(tenants::router())
        .merge(callers::router())
        .route("/console/theme", post(choose_theme))
        .route("/console/{*rest}", get(|| async { Problem::of(Code::NotFound) }))
        .layer(middleware::from_fn_with_state(Arc::clone(&console), around))
        // Added after the layer: assets are public and cacheable, so they need no visitor and no `no-store`.
        .route("/console/assets/{version}/{*name}", get(asset::serve))
        .with_state(console)
}

/// Redirects to the first page that the visitor may see.
async fn home(visitor: Visitor) -> Result<Redirect, Problem> {
    navigation::first(&visitor).map(Redirect::to).ok_or_else(|| {
        Problem::new(
            Code::Forbidden,
            "your permissions include no page of the console; sign in with another root key",
        )
    })
}

/// Stores the theme that a visitor chose, and returns to the page they were on.
async fn choose_theme(Submission { visitor, form }: Submission) -> Response {
    let mut response = visitor.go_to(safe_path(form.text("to")).unwrap_or("/console"), &Notice::default());
    Theme::from_name(form.text("theme")).keep(response.headers_mut());
    response
}

/// Identifies the visitor, renders problems as pages, and adds the security headers.
async fn around(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let visitor = Visitor::find(&console, &parts);
    if let Some(visitor) = &visitor {
        parts.extensions.insert(visitor.clone());
    }
    let request_id = visitor::request_id(&parts);
    let theme = Theme::of(&parts.headers);
    let mut response = next.run(Request::from_parts(parts, body)).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let headers = problem.headers.clone();
        response =
            page_frame::problem_page(visitor.as_ref(), theme, problem, &request_id).await.into_response();
        response.headers_mut().extend(headers.into_iter().flat_map(|headers| *headers));
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
