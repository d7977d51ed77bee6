//! The router: all endpoints, the pages, and the answers to paths that match no route.

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use percent_encoding::percent_decode_str;

use crate::admission::class::Class;
use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::access::Access;
use crate::auth::origin;
use crate::compat::{self, Compat};
use crate::console;
use crate::openapi;
use crate::routes;
use crate::service::Service;

/// Builds the service's router, with the endpoints of the other services in `compat`.
///
/// # Errors
/// When the OpenAPI document cannot be written as JSON.
pub(crate) fn router(service: Arc<Service>, compat: &[Compat]) -> Result<Router, serde_json::Error> {
    let (router, document) = routes::endpoints();
    let console = console::router(Arc::clone(&service), router.clone());
    let router = router
        .merge(compat::router(compat))
        .merge(openapi::router(&document)?)
        .with_state(Arc::clone(&service))
        .merge(console)
        .fallback(|| async { Problem::of(Code::NotFound).into_response() });
    Ok(router
        .layer(axum::middleware::from_fn_with_state(service, count_anonymous))
        .layer(axum::middleware::from_fn(note_route)))
}

/// Builds the router of a listener that only the operator's monitoring reaches.
pub(crate) fn admin_router(service: Arc<Service>) -> Router {
    routes::service::status::admin_router()
        .with_state(service)
        .fallback(|| async { Problem::of(Code::NotFound).into_response() })
        .layer(axum::middleware::from_fn(note_route))
}

/// Counts requests to endpoints that need no caller. All other endpoints count theirs when they read the
/// [`Caller`](crate::auth::caller::Caller).
async fn count_anonymous(
    State(service): State<Arc<Service>>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let Some(route) = route else { return next.run(request).await };
    let (mut parts, body) = request.into_parts();
    if Access::to(&parts.method, route.as_str()) == Some(Access::Everyone) {
        let class = Class::of(&parts.method, route.as_str());
        match service.rate_limits.count_anonymous(class, origin::address(&service, &parts)) {
            Ok(counted) => parts.extensions.insert(counted),
            Err(problem) => return problem.into_response(),
        };
    }
    next.run(Request::from_parts(parts, body)).await
}

/// Replaces the router's own answers by problems, and passes the matched route to the outermost layer. The
/// log gets the route, not the request's path, which may contain a token that a client put there by mistake.
async fn note_route(route: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let is_text = percent_decode_str(request.uri().path()).decode_utf8().is_ok();
    let mut response = next.run(request).await;
    // axum answers a path whose parameters are not UTF-8 with a text of its own.
    let is_routers = || response.extensions().get::<Problem>().is_none();
    if !is_text && response.status() == StatusCode::BAD_REQUEST && is_routers() {
        response = Problem::of(Code::NotFound).into_response();
    }
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}
