//! Pages about root keys, applications, portal links and webhooks.

pub mod application;
pub mod permission_choice;
pub mod portal_link;
pub mod root_key;
pub mod webhook;

use std::sync::Arc;

use axum::Router;

use super::Console;

/// Pages about those who call, and about webhooks.
pub(super) fn router() -> Router<Arc<Console>> {
    Router::new()
        .merge(portal_link::router())
        .merge(application::router())
        .merge(root_key::router())
        .merge(webhook::router())
}
