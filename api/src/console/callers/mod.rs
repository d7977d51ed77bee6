//! Pages about root keys, applications, portal links, console sessions and webhooks.

pub(crate) mod application;
pub(crate) mod console_session;
pub(crate) mod credential;
pub(crate) mod permission_choice;
pub(crate) mod portal_link;
pub(crate) mod root_key;
pub(crate) mod webhook;
pub(crate) mod webhook_form;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::state::Console;

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new()
        .merge(portal_link::router())
        .merge(application::router())
        .merge(root_key::router())
        .merge(console_session::router())
        .merge(webhooks())
}

fn webhooks() -> Router<Arc<Console>> {
    Router::new()
        .route(webhook::PATH, get(webhook::list).post(webhook_form::create))
        .route("/console/webhooks/new", get(webhook_form::create_form))
        .route("/console/webhooks/{id}", get(webhook::show))
        .route("/console/webhooks/{id}/edit", get(webhook_form::edit_form).post(webhook_form::edit))
        .route("/console/webhooks/{id}/enabled", post(webhook::set_enabled))
        .route("/console/webhooks/{id}/test", post(webhook::test))
        .route("/console/webhooks/{id}/rotate", get(webhook_form::rotate_form).post(webhook_form::rotate))
        .route(
            "/console/webhooks/{id}/redeliver",
            get(webhook_form::redeliver_form).post(webhook_form::redeliver),
        )
        .route("/console/webhooks/{id}/dead-letters/{letter}/redeliver", post(webhook::redeliver_letter))
        .route("/console/webhooks/{id}/delete", get(webhook_form::delete_form).post(webhook_form::delete))
}
