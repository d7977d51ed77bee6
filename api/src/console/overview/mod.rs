//! The overview page.

pub(crate) mod daily_chart;
pub(crate) mod health;
pub(crate) mod home;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use super::state::Console;

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new().route("/console/overview", get(home::show))
}
