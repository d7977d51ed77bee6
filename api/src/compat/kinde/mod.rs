//! Kinde's management endpoints for API keys, and for APIs as far as keys need them (docs/compat-kinde.md).
//! Their form follows `@kinde/management-api-js`.

mod answer;
mod apis;
mod keys;

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, middleware};
use http::StatusCode;
use serde_json::json;

use crate::service::Service;

pub(super) fn router() -> Router<Arc<Service>> {
    Router::new()
        .route("/api/v1/api_keys", get(keys::list).post(keys::create))
        .route("/api/v1/api_keys/{key_id}", get(keys::read).put(keys::rotate).delete(keys::delete))
        .route("/api/v1/api_keys/verify", post(keys::verify))
        .route("/api/v1/apis", get(apis::list).post(apis::register))
        .route("/api/v1/apis/{api_id}", get(apis::read).delete(apis::delete))
        .route("/api/v1/apis/{api_id}/scopes", get(apis::scopes).post(apis::add_scope))
        .route("/api/v1/apis/{api_id}/scopes/{scope_id}", get(apis::scope).delete(apis::remove_scope))
        .route("/api/v1/{*rest}", any(no_such_endpoint))
        .layer(middleware::from_fn(answer::in_kinde_form))
}

async fn no_such_endpoint() -> Response {
    let error = json!({ "code": "ROUTE_NOT_FOUND", "message": "The requested API route does not exist" });
    (StatusCode::NOT_FOUND, Json(json!({ "errors": error }))).into_response()
}
