//! The health of the service.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use http::{HeaderValue, StatusCode, header};
use keyledger_engine::value::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::code::Code;
use crate::answer::problem::{Problem, ProblemBody};
use crate::auth::caller::Admitted;
use crate::jobs::witness::WitnessStatus;
use crate::routes::service::projections::ProjectionView;
use crate::service::Service;
use crate::service::metrics;
use crate::service::projections::ProjectionStatus;

/// Returns the endpoints about the service's health. They need no credential.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(metrics_text))
}

/// Returns the same endpoints for a listener that only the operator's monitoring reaches: with all details.
pub(crate) fn admin_router() -> Router<Arc<Service>> {
    let readiness = async |State(service): State<Arc<Service>>| detailed_readiness(&service);
    let metrics = async |State(service): State<Arc<Service>>| metrics_of(&service);
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
}

/// Answers while the process runs.
#[utoipa::path(get, path = "/healthz", operation_id = "getHealth", tag = "Service", security(()),
    responses((status = 200, description = "the process runs", body = String, content_type = "text/plain")))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the service has caught up with its log. A service with `--admin-listen` shows everything but
/// `ready` there only.
#[derive(Serialize, ToSchema, Default)]
struct Readiness {
    /// Whether all projections have caught up, none has stopped, and the log is served.
    ready: bool,
    /// The position of the last event.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// The projections.
    #[serde(skip_serializing_if = "Option::is_none")]
    projections: Option<Vec<ProjectionView>>,
    /// Why the log is known to be an older copy or altered, if it is: its file, and what to do. No other
    /// request is answered then, unless the service was started with `--serve-inconsistent-log`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    log_inconsistent: Option<Option<String>>,
    /// Why the service signs no checkpoint of the log, if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    signing_refused: Option<Option<String>>,
    /// Why commands are refused for want of disk space, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    disk_space_low: Option<Option<String>>,
    /// The witnesses that cosign the log's checkpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    witnesses: Option<Vec<WitnessView>>,
}

/// The state of a witness.
#[derive(Serialize, ToSchema)]
struct WitnessView {
    /// Its name.
    name: String,
    /// The number of events that the last checkpoint it cosigned covers, since the service started.
    size: Option<u64>,
    /// When it cosigned that checkpoint.
    #[schema(value_type = Option<String>, format = DateTime)]
    cosigned_at: Option<Timestamp>,
    /// Why the last attempt failed.
    problem: Option<String>,
}

impl WitnessView {
    fn of(status: WitnessStatus) -> Self {
        let (size, cosigned_at) = status.cosigned.unzip();
        Self { name: status.name, size, cosigned_at, problem: status.problem }
    }
}

/// Returns whether the service has caught up with its log. Answers 503 until it has.
#[utoipa::path(get, path = "/readyz", operation_id = "getReadiness", tag = "Service", security(()),
    responses(
        (status = 200, body = Readiness, description = "every projection has caught up"),
        (status = 503, body = Readiness,
            description = "a projection has not caught up, or has stopped, or the log is inconsistent"),
    ))]
async fn readyz(State(service): State<Arc<Service>>, page: Option<Extension<Admitted>>) -> Response {
    // The console shows it to whoever is signed in.
    if service.has_admin_listener && page.is_none() {
        let ready = is_ready(&service, &service.projection_statuses());
        return answer(Readiness { ready, ..Readiness::default() });
    }
    detailed_readiness(&service)
}

fn is_ready(service: &Service, projections: &[ProjectionStatus]) -> bool {
    projections.iter().all(|status| status.live && status.poisoned.is_none())
        && !service.inconsistency.is_refused()
}

fn detailed_readiness(service: &Arc<Service>) -> Response {
    let statuses = service.projection_statuses();
    let ready = is_ready(service, &statuses);
    let witnesses = service.witnesses.statuses();
    answer(Readiness {
        ready,
        position: Some(service.ledger.head().get()),
        projections: Some(statuses.into_iter().map(ProjectionView::of).collect()),
        log_inconsistent: Some(service.inconsistency.reason().map(str::to_owned)),
        signing_refused: Some(service.log_signer.refusal().map(|refusal| refusal.to_string())),
        disk_space_low: Some(service.disk_reserve.problem()),
        witnesses: Some(witnesses.into_iter().map(WitnessView::of).collect()),
    })
}

fn answer(readiness: Readiness) -> Response {
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(readiness)).into_response()
}

/// Returns counters and gauges in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics", operation_id = "getMetrics", tag = "Service", security(()),
    responses(
        (status = 200, description = "the metrics", body = String,
            content_type = "application/openmetrics-text"),
        (status = 404, body = ProblemBody,
            description = "`not_found`: the service shows its metrics at `--admin-listen` only"),
    ))]
async fn metrics_text(State(service): State<Arc<Service>>) -> Result<Response, Problem> {
    if service.has_admin_listener {
        return Err(Problem::of(Code::NotFound));
    }
    metrics_of(&service)
}

fn metrics_of(service: &Arc<Service>) -> Result<Response, Problem> {
    const OPEN_METRICS: HeaderValue =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = metrics::render(service).map_err(|error| Problem::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}
