//! The projections that are kept in files, and making them anew while they go on answering.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use keyledger_projections::stored::runner::ProjectionHandle;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Code, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::answer::view::Page;
use crate::auth::caller::Caller;
use crate::request::query::PathId;
use crate::service::Service;
use crate::service::projections::ProjectionStatus;

/// The calls about projections; all of them need the permission `admin`.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read)).routes(routes!(rebuild))
}

/// How a projection is doing.
#[derive(Serialize, ToSchema)]
#[schema(as = Projection)]
pub(crate) struct ProjectionView {
    /// Its name.
    #[schema(example = "key-list")]
    name: &'static str,
    /// `live`, `catching_up` or `stopped`.
    status: &'static str,
    /// The position of the last event that it shows.
    position: u64,
    /// Why it has stopped, with the position of the event.
    reason: Option<String>,
    /// How far it is made anew, while it is.
    rebuild: Option<RebuildView>,
    /// How often it was made anew since the service was started.
    rebuilds_finished: u64,
    /// How often that failed; the service's log says why.
    rebuilds_failed: u64,
}

/// How far a projection is made anew.
#[derive(Serialize, ToSchema)]
#[schema(as = Rebuild)]
struct RebuildView {
    /// The position of the last event taken in.
    position: u64,
    /// The position to come to, as it is now.
    head: u64,
}

impl ProjectionView {
    /// What is shown of a projection.
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

/// Lists the projections that are kept in files.
#[utoipa::path(get, path = "/v1/projections", operation_id = "listProjections", tag = "Service",
    responses((status = 200, body = Page<ProjectionView>, description = "all of them, on one page")))]
async fn list(State(service): State<Arc<Service>>, _caller: Caller) -> Result<Response, Problem> {
    let stored = service.stored_projections().map(ProjectionStatus::of);
    let data: Vec<_> = stored.into_iter().map(ProjectionView::of).collect();
    let total = data.len() as u64;
    Reply::at(service.ledger.head()).json(&Page { data, next_cursor: None, total, total_capped: false })
}

/// Tells how a projection is doing, and how far it is made anew.
#[utoipa::path(get, path = "/v1/projections/{name}", operation_id = "getProjection", tag = "Service",
    params(("name" = String, Path, description = "`key-list` or `audit-trail`")),
    responses(
        (status = 200, body = ProjectionView, description = "the projection"),
        (status = 404, body = ProblemBody, description = "`projection_not_found`"),
    ))]
async fn read(
    State(service): State<Arc<Service>>,
    _caller: Caller,
    PathId(name): PathId,
) -> Result<Response, Problem> {
    let handle = find(&service, &name)?;
    Reply::at(handle.position()).json(&ProjectionView::of(ProjectionStatus::of(handle)))
}

/// Makes a projection anew from the log, beside the present one, which goes on answering and following the log until the
/// new one takes its place. The answer comes when it has begun; the projection tells how far it is.
#[utoipa::path(post, path = "/v1/projections/{name}/rebuild", operation_id = "rebuildProjection", tag = "Service",
    params(("name" = String, Path, description = "`key-list` or `audit-trail`")),
    responses(
        (status = 202, body = ProjectionView, description = "it has begun"),
        (status = 404, body = ProblemBody, description = "`projection_not_found`"),
        (status = 409, body = ProblemBody, description = "`rebuild_running`"),
    ))]
async fn rebuild(
    State(service): State<Arc<Service>>,
    caller: Caller,
    PathId(name): PathId,
) -> Result<Response, Problem> {
    let handle = find(&service, &name)?;
    // Nobody waits for the outcome: the projection tells it.
    if handle.rebuild_if_idle().is_none() {
        return Err(Problem::of(Code::RebuildRunning));
    }
    tracing::info!(actor = %caller.actor.id, projection = handle.name(), "asked for the projection anew");
    Reply::at(handle.position())
        .status(StatusCode::ACCEPTED)
        .location(&format!("/v1/projections/{}", handle.name()))
        .json(&ProjectionView::of(ProjectionStatus::of(handle)))
}

fn find<'a>(service: &'a Service, name: &str) -> Result<&'a ProjectionHandle, Problem> {
    let found = service.stored_projections().into_iter().find(|handle| handle.name() == name);
    found.ok_or_else(|| Problem::of(Code::ProjectionNotFound))
}
