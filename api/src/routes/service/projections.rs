//! The stored projections, and rebuilding them while they keep answering.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use keyledger_projections::stored::runner::ProjectionHandle;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::code::Code;
use crate::answer::page::Page;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::request::context::RequestContext;
use crate::request::query::PathId;
use crate::service::Service;
use crate::service::projections::ProjectionStatus;

/// Returns the endpoints about projections.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read)).routes(routes!(rebuild))
}

/// The state of a projection.
#[derive(Serialize, ToSchema)]
#[schema(as = Projection)]
pub(crate) struct ProjectionView {
    /// Its name.
    #[schema(example = "key-list")]
    name: &'static str,
    /// `live`, `catching_up` or `stopped`.
    status: &'static str,
    /// The position of the last event that it has applied.
    position: u64,
    /// Why it has stopped, with the event's position.
    reason: Option<String>,
    /// The progress of a running rebuild.
    rebuild: Option<RebuildView>,
    /// The number of finished rebuilds since the service started.
    rebuilds_finished: u64,
    /// The number of failed rebuilds. The service's log has the reasons.
    rebuilds_failed: u64,
}

/// The progress of a rebuild.
#[derive(Serialize, ToSchema)]
#[schema(as = Rebuild)]
struct RebuildView {
    /// The position of the last applied event.
    position: u64,
    /// The current target position.
    head: u64,
}

impl ProjectionView {
    #[must_use]
    pub(crate) fn of(status: ProjectionStatus) -> Self {
        Self {
            name: status.name,
            status: match (&status.poisoned, status.live) {
                (Some(_), _) => "stopped",
                (None, true) => "live",
                (None, false) => "catching_up",
            },
            position: status.position.get(),
            reason: status.poisoned,
            rebuild: status
                .rebuild
                .map(|it| RebuildView { position: it.position.get(), head: it.head.get() }),
            rebuilds_finished: status.rebuilds.0,
            rebuilds_failed: status.rebuilds.1,
        }
    }
}

/// Lists the stored projections.
#[utoipa::path(get, path = "/v1/projections", operation_id = "listProjections", tag = "Service",
    responses((status = 200, body = Page<ProjectionView>, description = "all of them on one page")))]
async fn list(request: RequestContext) -> Result<Response, Problem> {
    let stored = request.service.stored_projections().map(ProjectionStatus::of);
    let page = Page::whole(stored.into_iter().map(ProjectionView::of).collect());
    Reply::at(request.service.ledger.head()).json(&page)
}

/// Documents the name in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "the handlers take the name as a `PathId`")]
struct ProjectionPath {
    /// `key-list` or `audit-trail`.
    name: String,
}

/// Returns the state of a projection, and the progress of its rebuild.
#[utoipa::path(get, path = "/v1/projections/{name}", operation_id = "getProjection", tag = "Service",
    params(ProjectionPath),
    responses(
        (status = 200, body = ProjectionView, description = "the projection"),
        (status = 404, body = ProblemBody, description = "`projection_not_found`"),
    ))]
async fn read(request: RequestContext, name: PathId) -> Result<Response, Problem> {
    let handle = find(&request.service, &name)?;
    Reply::at(handle.position()).json(&ProjectionView::of(ProjectionStatus::of(handle)))
}

/// Starts rebuilding a projection from the log. The current projection keeps answering and following the log
/// until the new one replaces it. The projection shows the progress.
#[utoipa::path(post, path = "/v1/projections/{name}/rebuild", operation_id = "rebuildProjection",
    tag = "Service", params(ProjectionPath),
    responses(
        (status = 202, body = ProjectionView, description = "the rebuild has started"),
        (status = 404, body = ProblemBody, description = "`projection_not_found`"),
        (status = 409, body = ProblemBody, description = "`rebuild_running`"),
    ))]
async fn rebuild(request: RequestContext, name: PathId) -> Result<Response, Problem> {
    let handle = find(&request.service, &name)?;
    // The returned future is dropped: the projection reports the outcome.
    if handle.rebuild_if_idle().is_none() {
        return Err(Problem::of(Code::RebuildRunning));
    }
    let actor = &request.caller.actor.id;
    tracing::info!(%actor, projection = handle.name(), "a caller requested a rebuild of a projection");
    Reply::at(handle.position())
        .status(StatusCode::ACCEPTED)
        .location(&format!("/v1/projections/{}", handle.name()))
        .json(&ProjectionView::of(ProjectionStatus::of(handle)))
}

fn find<'a>(service: &'a Service, name: &str) -> Result<&'a ProjectionHandle, Problem> {
    let found = service.stored_projections().into_iter().find(|handle| handle.name() == name);
    found.ok_or_else(|| Problem::of(Code::ProjectionNotFound))
}
