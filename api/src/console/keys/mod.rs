//! Pages about keys.

pub(crate) mod actions;
pub(crate) mod change;
pub(crate) mod creation;
pub(crate) mod list;
pub(crate) mod page;
pub(crate) mod selection;
pub(crate) mod token_page;
pub(crate) mod token_test;
pub(crate) mod usage_chart;
pub(crate) mod violations;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::state::Console;

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route("/console/keys", get(list::list).post(creation::create))
        .route("/console/keys/new", get(creation::form))
        .route("/console/keys/selection", post(selection::preview))
        .route("/console/keys/selection/apply", post(selection::apply))
        .route("/console/keys/{id}", get(page::show))
        .route("/console/keys/{id}/edit", get(change::edit_form).post(change::edit))
        .route("/console/keys/{id}/rotate", get(change::rotate_form).post(change::rotate))
        .route("/console/keys/{id}/revoke", get(change::revoke_form).post(change::revoke))
        .route("/console/keys/{id}/reactivate", post(change::reactivate))
        .route("/console/keys/{id}/delete", get(change::delete_form).post(change::delete))
        .route("/console/organizations/{id}/violations", get(violations::show))
        .route("/console/test", get(token_test::form).post(token_test::test))
}
