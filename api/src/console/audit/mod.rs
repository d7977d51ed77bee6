//! Pages about events and the log.

pub(crate) mod actor_name;
pub(crate) mod audit_log;
pub(crate) mod checkpoint;
pub(crate) mod event;
pub(crate) mod event_sentence;
pub(crate) mod history;
pub(crate) mod log_check;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::state::Console;

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route("/console/audit", get(audit_log::show))
        .route("/console/audit/verification", post(log_check::start))
}
