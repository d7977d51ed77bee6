//! The calls that verify tokens.

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::verify;
use crate::service::Service;

/// The calls about tokens.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(verify::verify)).routes(routes!(verify::verify_batch))
}
