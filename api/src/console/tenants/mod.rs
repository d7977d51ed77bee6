//! Pages about organizations, portfolios, policies and APIs.

pub(crate) mod api_choice;
pub(crate) mod api_list;
pub(crate) mod organization;
pub(crate) mod organization_choice;
pub(crate) mod organization_list;
pub(crate) mod organization_page;
pub(crate) mod policy;
pub(crate) mod portfolio;

use std::sync::Arc;

use axum::Router;

use super::state::Console;

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new()
        .merge(organization_list::router())
        .merge(portfolio::router())
        .merge(policy::router())
        .merge(api_list::router())
}
