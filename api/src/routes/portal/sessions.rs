//! Portal sessions, as those see them who let people in: links are minted, sessions listed and revoked.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use keyledger_engine::domain::portal_session::{
    EndReason, PortalSession, PortalSessionCommand, PortalSessionCreated, PortalSessionStatus,
};
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::ledger::{Aggregate, Command, Committed};
use keyledger_engine::value::id::{OrganizationId, PortalSessionId};
use keyledger_engine::value::role::Role;
use keyledger_engine::value::text::UserId;
use keyledger_engine::value::token::{SecretKind, Token};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Code, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::answer::view::{Page, PortalSessionView};
use crate::auth::caller::Caller;
use crate::request::body::{Checks, Field, Json, number, parsed, text};
use crate::request::execution::{Outcome, execute, outcome};
use crate::request::paging::{BoundPageQuery, BoundPaging};
use crate::request::precondition::{check_version, reach_min_position};
use crate::request::query::PathId;
use crate::service::Service;

/// How long a link can be followed unless the call says otherwise: 10 minutes.
const LINK_SECONDS_DEFAULT: u64 = 10 * 60;
/// How long a session lasts unless the call says otherwise: 8 hours.
const SESSION_SECONDS_DEFAULT: u64 = 8 * 60 * 60;
/// Neither lasts longer than a day.
const SECONDS_MAX: u64 = 24 * 60 * 60;

/// The calls about portal sessions; all of them need the permission `portal:write`.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(read, revoke))
}

/// Whom to let in.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = CreatePortalSession)]
struct CreateBody {
    /// The organization.
    #[schema(value_type = String, required = true)]
    #[serde(default)]
    organization_id: Field,
    /// Who the person is, as the organization names them; a member must be somebody.
    #[schema(value_type = Option<String>, max_length = 255)]
    #[serde(default)]
    user_id: Field,
    /// `owner`, `admin`, `member` or `auditor`.
    #[schema(value_type = String, required = true, example = "member")]
    #[serde(default)]
    role: Field,
    /// For how many seconds the link can be followed: 1 to 86,400; 600 if left out.
    #[schema(value_type = Option<u64>, example = 600)]
    #[serde(default)]
    link_seconds: Field,
    /// For how many seconds the session lasts once the link was followed: 1 to 86,400; 28,800 if left out.
    #[schema(value_type = Option<u64>, example = 28800)]
    #[serde(default)]
    session_seconds: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// A portal session with the link to it.
#[derive(Serialize, ToSchema)]
struct PortalSessionWithLink {
    /// The session.
    portal_session: PortalSessionView,
    /// The link, this once; left out when the call repeats an earlier one. Whoever follows it first is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://keys.example.com/portal#kllink_...")]
    url: Option<String>,
}

/// Mints a link that lets one person into the portal of an organization, once.
#[utoipa::path(post, path = "/v1/portal-sessions", operation_id = "createPortalSession", tag = "Portal", request_body = CreateBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "names the call for 24 hours: repeated, it takes place once")),
    responses(
        (status = 201, body = PortalSessionWithLink, description = "the session and the link to it"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`"),
        (status = 410, body = ProblemBody, description = "`organization_deleted`"),
        (status = 422, body = ProblemBody, description = "`invalid_request` with every field that fails"),
    ))]
async fn create(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Json { body, bytes }: Json<CreateBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let organization_id = checks.required("organization_id", &body.organization_id, parsed::<OrganizationId>);
    let user_id = checks.optional("user_id", &body.user_id, text(UserId::new));
    let role = checks.required("role", &body.role, parsed::<Role>);
    let link_seconds = checks.optional("link_seconds", &body.link_seconds, number(SECONDS_MAX));
    let session_seconds = checks.optional("session_seconds", &body.session_seconds, number(SECONDS_MAX));
    for (pointer, seconds) in [("/link_seconds", link_seconds), ("/session_seconds", session_seconds)] {
        if seconds == Some(0) {
            checks.fail(pointer, "must be at least 1");
        }
    }
    if role.is_some_and(Role::sees_own_keys_only) && user_id.is_none() && !body.user_id.is_present() {
        checks.fail("/user_id", "is required for this role: it sees the keys of one user");
    }
    checks.unknown(&body.unknown);
    checks.finish()?;
    let (Some(organization_id), Some(role)) = (organization_id, role) else {
        return Err(Problem::of(Code::InvalidRequest));
    };
    if !caller.sees(&organization_id) {
        return Err(Problem::of(Code::OrganizationNotFound));
    }
    let now = service.ledger.now();
    let id = service.new_id();
    let secret = Token::generate_secret(SecretKind::PortalLink, &mut service.randomness())
        .map_err(|error| Problem::internal(&error))?;
    let link_millis = i64::try_from(link_seconds.unwrap_or(LINK_SECONDS_DEFAULT) * 1_000).unwrap_or(0);
    let facts = PortalSessionCreated {
        digest: secret.digest(),
        role,
        link_expires_at: now.saturating_add_millis(link_millis),
        lifetime_seconds: u32::try_from(session_seconds.unwrap_or(SESSION_SECONDS_DEFAULT)).unwrap_or(0),
    };
    let command =
        Command::PortalSession(id, PortalSessionCommand::Create { organization_id, user_id, facts });
    let name = ("POST /v1/portal-sessions", bytes.as_ref());
    let committed = execute(&service, &caller, &headers, Some(name), command).await;
    let outcome = session_outcome(committed.map_err(|problem| match problem.code {
        Code::OrganizationNotFound | Code::OrganizationDeleted => {
            Problem::field("/organization_id", problem.detail)
        }
        _ => problem,
    })?)?;
    let shown = PortalSessionWithLink {
        portal_session: PortalSessionView::of(&outcome.object, outcome.time),
        url: (!outcome.replayed)
            .then(|| format!("{}/portal#{}", service.access_tokens.issuer(), secret.expose())),
    };
    Reply::at(outcome.position)
        .status(StatusCode::CREATED)
        .version(outcome.version)
        .location(&format!("/v1/portal-sessions/{}", outcome.object.id))
        .secret()
        .replayed(outcome.replayed)
        .json(&shown)
}

/// Takes the session out of what a command led to.
///
/// # Errors
/// `internal`, should it have led to something else.
pub(crate) fn session_outcome(committed: Committed) -> Result<Outcome<PortalSession>, Problem> {
    outcome(committed, |aggregate| match aggregate {
        Aggregate::PortalSession(session) => {
            let version = session.version;
            Some((session, version))
        }
        _ => None,
    })
}

/// Reads a session from the log, whatever its state, for a caller who may see it.
async fn load(service: &Arc<Service>, caller: &Caller, id: &str) -> Result<PortalSession, Problem> {
    let not_found = || Problem::of(Code::PortalSessionNotFound);
    let id: PortalSessionId = id.parse().map_err(|_| not_found())?;
    let stream = service.read_log(move |log| log.read_stream(&StreamId::PortalSession(id))).await?;
    match Aggregate::fold(&stream.records) {
        Ok(Some(Aggregate::PortalSession(session))) if caller.sees(&session.organization_id) => Ok(session),
        Ok(_) => Err(not_found()),
        Err(position) => Err(Problem::internal(&format!("the event at {position} does not fit its session"))),
    }
}

/// Lists the sessions, and the links that wait to be followed, that are good still, in the order of their creation.
#[utoipa::path(get, path = "/v1/portal-sessions", operation_id = "listPortalSessions", tag = "Portal", params(BoundPageQuery),
    responses((status = 200, body = Page<PortalSessionView>, description = "a page of sessions")))]
async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    bound: BoundPaging,
) -> Result<Response, Problem> {
    reach_min_position(&headers, &service.index.watch()).await?;
    let (position, now) = (service.index.position(), service.now());
    let after = bound.paging.after::<PortalSessionId>()?;
    let mut all = service.index.portal_sessions(None, usize::MAX);
    all.retain(|it| {
        let is_good = matches!(it.status(now), PortalSessionStatus::Pending | PortalSessionStatus::Active);
        is_good
            && caller.sees(&it.organization_id)
            && bound.has(Some(&it.organization_id))
            && service.index.organization(&it.organization_id).is_some_and(|it| it.deleted_at.is_none())
    });
    let page = bound.paging.page_of_all(all, after.as_ref(), |it| it.id, |it| PortalSessionView::of(it, now));
    Reply::at(position).json(&page)
}

/// Shows a session, also one that has ended.
#[utoipa::path(get, path = "/v1/portal-sessions/{id}", operation_id = "getPortalSession", tag = "Portal", params(("id" = String, Path, description = "its id"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 200, body = PortalSessionView, description = "the session"),
        (status = 404, body = ProblemBody, description = "`portal_session_not_found`"),
    ))]
async fn read(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    reach_min_position(&headers, &service.ledger.watch_head()).await?;
    let position = service.ledger.head();
    let session = load(&service, &caller, &id).await?;
    check_version(&headers, session.version)?;
    Reply::at(position).version(session.version).json(&PortalSessionView::of(&session, service.now()))
}

/// Ends a session, or takes back a link that nobody followed.
#[utoipa::path(delete, path = "/v1/portal-sessions/{id}", operation_id = "revokePortalSession", tag = "Portal",
    params(("id" = String, Path, description = "its id"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 204, description = "it has ended"),
        (status = 410, body = ProblemBody, description = "`portal_session_ended`: it had before"),
    ))]
async fn revoke(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let id = load(&service, &caller, &id).await?.id;
    let command = Command::PortalSession(id, PortalSessionCommand::End { reason: EndReason::Revoked });
    let committed = execute(&service, &caller, &headers, None, command).await?;
    Ok(Reply::at(committed.position).empty())
}
