//! The visitor: signing in, reading, submitting forms.

pub(crate) mod openid_sign_in;
pub(crate) mod sign_in;
pub(crate) mod submission;
pub(crate) mod visitor;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::Console;

/// Signing in and out.
pub(super) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route("/console/sign-in", get(sign_in::page).post(sign_in::sign_in))
        .route("/console/openid", get(openid_sign_in::start))
        .route("/console/openid/callback", get(openid_sign_in::finish))
        .route("/console/sign-out", post(sign_in::sign_out))
}
