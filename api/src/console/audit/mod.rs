//! Pages about events and the log.

pub mod actor_name;
pub mod audit_log;
pub mod event_sentence;
pub mod history;
pub mod log_check;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::Console;

/// The audit log and the verification of the log.
pub(super) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route("/console/audit", get(audit_log::show))
        .route("/console/audit/verification", post(log_check::start))
}
