//! Pages for signing in and out.

pub(crate) mod openid;
pub(crate) mod page;
pub(crate) mod pending;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::state::Console;

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route("/console/sign-in", get(page::page).post(page::sign_in))
        .route("/console/openid", get(openid::start))
        .route("/console/openid/callback", get(openid::finish))
        .route("/console/sign-out", post(page::sign_out))
}
