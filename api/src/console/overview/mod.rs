//! The overview page.

pub mod daily_chart;
pub mod health;
pub mod home;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use super::Console;

/// The overview.
pub(super) fn router() -> Router<Arc<Console>> {
    Router::new().route("/console/overview", get(home::show))
}
