//! Pages about organizations, portfolios, policies and APIs.

pub mod api_choice;
pub mod api_list;
pub mod organization;
pub mod organization_choice;
pub mod organization_list;
pub mod policy;
pub mod portfolio;

use std::sync::Arc;

use axum::Router;

use super::Console;

/// Pages about organizations and APIs.
pub(super) fn router() -> Router<Arc<Console>> {
    Router::new()
        .merge(organization_list::router())
        .merge(portfolio::router())
        .merge(policy::router())
        .merge(api_list::router())
}
