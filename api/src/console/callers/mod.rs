//! Pages about root keys, applications, portal links and webhooks.

pub(crate) mod application;
pub(crate) mod permission_choice;
pub(crate) mod portal_link;
pub(crate) mod root_key;
pub(crate) mod webhook;

use std::sync::Arc;

use axum::Router;

use super::state::Console;

/// Pages about those who call, and about webhooks.
pub(super) fn router() -> Router<Arc<Console>> {
    Router::new()
        .merge(portal_link::router())
        .merge(application::router())
        .merge(root_key::router())
        .merge(webhook::router())
}
