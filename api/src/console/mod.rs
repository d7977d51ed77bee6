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

pub mod actor_name;
pub mod api_choice;
pub mod api_list;
pub mod application;
pub mod asset;
pub mod audit_log;
pub mod badge;
pub mod daily_chart;
pub mod event_sentence;
pub mod field;
pub mod field_errors;
pub mod form_page;
pub mod frame;
pub mod health;
pub mod history;
pub mod icon;
pub mod key;
pub mod key_change;
pub mod key_creation;
pub mod key_list;
pub mod key_page;
pub mod key_selection;
pub mod list_page;
pub mod log_check;
pub mod marked;
pub mod moment;
pub mod navigation;
pub mod openid_sign_in;
pub mod organization;
pub mod organization_choice;
pub mod organization_list;
pub mod outcome;
pub mod overview;
pub mod permission_choice;
pub mod policy;
pub mod portal_link;
pub mod portfolio;
pub mod query_string;
pub mod root_key;
pub mod secret_page;
pub mod sign_in;
pub mod submission;
pub mod table;
pub mod tags;
pub mod theme;
pub mod toast;
pub mod token_page;
pub mod token_test;
pub mod usage_chart;
pub mod visitor;
pub mod webhook;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use http::{HeaderName, HeaderValue, header};

use crate::problem::{Code, Problem};
use crate::service::Service;

use self::visitor::Visitor;

/// What all pages share.
pub struct Console {
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
pub fn router(service: Arc<Service>, calls: Router<Arc<Service>>) -> Router {
    let calls = calls.with_state(Arc::clone(&service));
    let console = Arc::new(Console { service, calls, pending: openid_sign_in::Pending::default() });
    Router::new()
        .route("/", get(|| async { Redirect::to("/console") }))
        .route("/console", get(home))
        .route("/console/sign-in", get(sign_in::page).post(sign_in::sign_in))
        .route("/console/openid", get(openid_sign_in::start))
        .route("/console/openid/callback", get(openid_sign_in::finish))
        .route("/console/sign-out", post(sign_in::sign_out))
        .route("/console/audit", get(audit_log::show))
        .route("/console/audit/verification", post(log_check::start))
        .route("/console/overview", get(overview::show))
        .route("/console/keys", get(key_list::list).post(key_creation::create))
        .route("/console/keys/new", get(key_creation::form))
        .route("/console/keys/selection", post(key_selection::preview))
        .route("/console/keys/selection/apply", post(key_selection::apply))
        .route("/console/keys/{id}", get(key_page::show))
        .route("/console/keys/{id}/edit", get(key_change::edit_form).post(key_change::edit))
        .route("/console/keys/{id}/rotate", get(key_change::rotate_form).post(key_change::rotate))
        .route("/console/keys/{id}/revoke", get(key_change::revoke_form).post(key_change::revoke))
        .route("/console/keys/{id}/reactivate", post(key_change::reactivate))
        .route("/console/keys/{id}/delete", get(key_change::delete_form).post(key_change::delete))
        .route("/console/test", get(token_test::form).post(token_test::test))
        .merge(organization_list::router())
        .merge(portfolio::router())
        .merge(policy::router())
        .merge(portal_link::router())
        .merge(api_list::router())
        .merge(application::router())
        .merge(root_key::router())
        .merge(webhook::router())
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
        response = frame::problem_page(visitor.as_ref(), theme, problem, &request_id).await.into_response();
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
