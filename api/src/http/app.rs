//! The router: every call, the pages, and the answers where no call is.

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use percent_encoding::percent_decode_str;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::compat::{self, Compat};
use crate::console;
use crate::openapi;
use crate::routes;
use crate::service::Service;

/// The router of the service, with the calls of other services that it answers too.
///
/// # Errors
/// When the OpenAPI document cannot be written as JSON.
pub(crate) fn router(service: Arc<Service>, compat: &[Compat]) -> Result<Router, serde_json::Error> {
    let (router, document) = routes::endpoints();
    let console = console::router(Arc::clone(&service), router.clone());
    let router = router
        .merge(compat::router(compat))
        .merge(openapi::router(&document)?)
        .with_state(service)
        .merge(console)
        .fallback(|| async { Problem::of(Code::NotFound).into_response() });
    Ok(router.layer(axum::middleware::from_fn(note_route)))
}

/// Answers for the router where it speaks for itself, and tells the outermost layer which call it was: its log has the call's path, not the request's, which may hold a token
/// that somebody put there by mistake.
async fn note_route(route: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let is_text = percent_decode_str(request.uri().path()).decode_utf8().is_ok();
    let mut response = next.run(request).await;
    // The router refuses to take parameters out of such a path, in words of its own.
    let is_routers = || response.extensions().get::<Problem>().is_none();
    if !is_text && response.status() == StatusCode::BAD_REQUEST && is_routers() {
        response = Problem::of(Code::NotFound).into_response();
    }
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}
