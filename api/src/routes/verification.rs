//! The calls that verify tokens. The single one is answered ahead of the router ([`verify`](super::verify)); it stands
//! here too so that the document describes it and other methods on its path are refused as everywhere.

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::verify;
use crate::service::Service;

/// The calls about tokens.
pub fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(verify::verify_routed)).routes(routes!(verify::verify_batch))
}
