//! Portal sessions for those who manage them: creating links, listing and revoking sessions.

use std::sync::Arc;

use axum::response::Response;
use keyledger_engine::domain::portal_session::{
    EndReason, PortalSession, PortalSessionCommand, PortalSessionCreated, PortalSessionStatus,
};
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::ledger::{Aggregate, Command};
use keyledger_engine::value::id::{OrganizationId, PortalSessionId};
use keyledger_engine::value::role::Role;
use keyledger_engine::value::text::UserId;
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{SecretKind, Token};
use keyledger_projections::verification::VerificationIndex;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::code::Code;
use crate::answer::page::Page;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::auth::grant::Grant;
use crate::openapi::parameters::{IdempotencyKey, IfMatch, ObjectId};
use crate::request::body::{Checks, Field, JsonBody, number, parsed, text};
use crate::request::context::RequestContext;
use crate::request::execution::Outcome;
use crate::request::paging::BoundPaging;
use crate::request::precondition::reach_min_position;
use crate::request::query::{PathId, Query};
use crate::service::Service;

/// The default lifetime of a link: 10 minutes.
const LINK_SECONDS_DEFAULT: u64 = 10 * 60;
/// The default lifetime of a session: 8 hours.
const SESSION_SECONDS_DEFAULT: u64 = 8 * 60 * 60;
/// The longest lifetime of both: a day.
const SECONDS_MAX: u64 = 24 * 60 * 60;

/// Returns the endpoints about portal sessions.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(read, revoke))
}

/// A portal session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PortalSession)]
pub(super) struct PortalSessionView {
    /// `ps_<ULID>`.
    id: String,
    /// The organization.
    organization_id: String,
    /// The person's user id.
    user_id: Option<String>,
    /// `owner`, `admin`, `member` or `auditor`.
    #[schema(example = "member")]
    role: &'static str,
    /// `pending` until the link is used, then `active`, and at last `ended` or `expired`. A session also ends
    /// with the root key, the application or the portal session that created it.
    #[schema(example = "pending")]
    status: &'static str,
    /// When the link was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The id of the actor that created it.
    created_by: String,
    /// When the link was used.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    /// When the link expires, or the session once it has started.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// When it was ended early.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// The number of its events; the `ETag`.
    version: u32,
}

impl PortalSessionView {
    /// Returns the session with its status at `now`. One that is not in the index any more has ended with its
    /// minter.
    fn as_of_the_log(index: &VerificationIndex, session: &PortalSession, now: Timestamp) -> Self {
        let shown = Self::of(session, now);
        let has_ended = match session.status(now) {
            PortalSessionStatus::Pending | PortalSessionStatus::Active => {
                index.portal_session(session.id).is_none()
            }
            PortalSessionStatus::Ended | PortalSessionStatus::Expired => false,
        };
        if has_ended { Self { status: PortalSessionStatus::Ended.as_str(), ..shown } } else { shown }
    }

    /// Returns the session with its status at `now`.
    pub(super) fn of(session: &PortalSession, now: Timestamp) -> Self {
        Self {
            id: session.id.to_string(),
            organization_id: session.organization_id.to_string(),
            user_id: session.user_id.as_ref().map(|user_id| user_id.as_str().into()),
            role: session.role.as_str(),
            status: session.status(now).as_str(),
            created_at: session.created_at,
            created_by: session.created_by.to_string(),
            started_at: session.started_at,
            expires_at: session.expires_at,
            ended_at: session.ended_at,
            version: session.version.get(),
        }
    }
}

/// A new portal session.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = CreatePortalSession)]
struct CreateBody {
    /// The organization.
    #[schema(value_type = String, required = true)]
    #[serde(default)]
    organization_id: Field,
    /// The person's user id in the organization. Required for a member.
    #[schema(value_type = Option<String>, max_length = 255)]
    #[serde(default)]
    user_id: Field,
    /// `owner`, `admin`, `member` or `auditor`.
    #[schema(value_type = String, required = true, example = "member")]
    #[serde(default)]
    role: Field,
    /// The lifetime of the link in seconds: 1 to 86,400. Default 600. The link expires no later than the
    /// credential of the caller that creates it.
    #[schema(value_type = Option<u64>, example = 600)]
    #[serde(default)]
    link_seconds: Field,
    /// The lifetime of the session in seconds, once the link was used: 1 to 86,400. Default 28,800. The
    /// session expires no later than the credential of the caller that creates it.
    #[schema(value_type = Option<u64>, example = 28800)]
    #[serde(default)]
    session_seconds: Field,
}

/// A portal session with its link.
#[derive(Serialize, ToSchema)]
struct PortalSessionWithLink {
    /// The session.
    portal_session: PortalSessionView,
    /// The link. It is shown only once, and is absent when the request repeats an earlier one. The first
    /// person who uses it gets the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://keys.example.com/portal#kllink_...")]
    url: Option<String>,
}

/// Creates a link that lets one person into an organization's portal, once. The caller must have every
/// permission of the role. A link or session that was created in a portal session, or with an access token or
/// an OpenID provider's token, expires no later than that. It ends at once when the root key that created it
/// is revoked, the application deleted, or the portal session over.
#[utoipa::path(post, path = "/v1/portal-sessions", operation_id = "createPortalSession", tag = "Portal",
    request_body = CreateBody, params(IdempotencyKey),
    responses(
        (status = 201, body = PortalSessionWithLink, description = "the session and its link"),
        (status = 403, body = ProblemBody,
            description = "`forbidden`, also for a role with a permission that the caller lacks"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`"),
        (status = 410, body = ProblemBody, description = "`organization_deleted`"),
    ))]
async fn create(request: RequestContext, body: JsonBody<CreateBody>) -> Result<Response, Problem> {
    let (organization_id, user_id, role, lifetimes) = read_body(&request, &body)?;
    let now = request.service.ledger.now();
    let secret = Token::generate_secret(SecretKind::PortalLink, &mut request.service.randomness())
        .map_err(|error| Problem::internal(&error))?;
    let facts = PortalSessionCreated {
        digest: secret.digest(),
        role,
        link_expires_at: now.saturating_add_millis(lifetimes.link_millis),
        lifetime_seconds: lifetimes.session_seconds,
        ends_by: request.caller.principal.expires_at,
    };
    let command = PortalSessionCommand::Create { organization_id, user_id, facts };
    let command = Command::PortalSession(request.service.new_id(), command);
    let executed = request.execute_once("POST /v1/portal-sessions", &body.bytes, command).await;
    let outcome: Outcome<PortalSession> = executed.map_err(|problem| match problem.code {
        Code::OrganizationNotFound | Code::OrganizationDeleted => {
            Problem::field("/organization_id", problem.detail)
        }
        _ => problem,
    })?;
    let issuer = request.service.access_tokens.issuer();
    let shown = PortalSessionWithLink {
        portal_session: PortalSessionView::of(&outcome.object, outcome.time),
        url: (!outcome.replayed).then(|| format!("{issuer}/portal#{}", secret.expose())),
    };
    outcome.created(&format!("/v1/portal-sessions/{}", outcome.object.id)).secret().json(&shown)
}

/// The lifetimes of a link and its session.
struct Lifetimes {
    link_millis: i64,
    session_seconds: u32,
}

fn read_body(
    request: &RequestContext,
    body: &JsonBody<CreateBody>,
) -> Result<(OrganizationId, Option<UserId>, Role, Lifetimes), Problem> {
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
        checks.fail("/user_id", "is required for this role, which sees the keys of one user");
    }
    checks.unknown(&body.unknown);
    checks.finish()?;
    let (Some(organization_id), Some(role)) = (organization_id, role) else {
        return Err(Problem::of(Code::InvalidRequest));
    };
    request.caller.require_all_of(Grant::of_role(role, &organization_id, user_id.as_ref()))?;
    let lifetimes = Lifetimes {
        link_millis: i64::try_from(link_seconds.unwrap_or(LINK_SECONDS_DEFAULT) * 1_000).unwrap_or(0),
        session_seconds: u32::try_from(session_seconds.unwrap_or(SESSION_SECONDS_DEFAULT)).unwrap_or(0),
    };
    Ok((organization_id, user_id, role, lifetimes))
}

/// Reads a session from the log, in any state, if the caller may see it.
async fn load(request: &RequestContext, id: &str) -> Result<PortalSession, Problem> {
    let not_found = || Problem::of(Code::PortalSessionNotFound);
    let id: PortalSessionId = id.parse().map_err(|_| not_found())?;
    let stream = request.service.read_log(move |log| log.read_stream(&StreamId::PortalSession(id))).await?;
    match Aggregate::fold(&stream.records) {
        Ok(Some(Aggregate::PortalSession(session))) if request.caller.sees(&session.organization_id) => {
            Ok(session)
        }
        Ok(_) => Err(not_found()),
        Err(position) => Err(Problem::internal(&format!("the event at {position} does not fit its session"))),
    }
}

/// Lists valid sessions and unused links, in the order of their creation.
#[utoipa::path(get, path = "/v1/portal-sessions", operation_id = "listPortalSessions", tag = "Portal",
    params(BoundPaging),
    responses((status = 200, body = Page<PortalSessionView>, description = "a page of sessions")))]
async fn list(request: RequestContext, Query(bound): Query<BoundPaging>) -> Result<Response, Problem> {
    let (position, now) = (request.index_position(), request.service.now());
    let index = &request.service.index;
    let mut all = index.portal_sessions(None, usize::MAX);
    all.retain(|it| {
        let is_valid = matches!(it.status(now), PortalSessionStatus::Pending | PortalSessionStatus::Active);
        is_valid && index.organization(&it.organization_id).is_some_and(|it| it.deleted_at.is_none())
    });
    let view = |it: &PortalSession| PortalSessionView::of(it, now);
    Reply::at(position).json(&bound.page_of_visible(&request.caller, all, view)?)
}

/// Returns a session, even one that has ended.
#[utoipa::path(get, path = "/v1/portal-sessions/{id}", operation_id = "getPortalSession", tag = "Portal",
    params(ObjectId, IfMatch),
    responses(
        (status = 200, body = PortalSessionView, description = "the session"),
        (status = 404, body = ProblemBody, description = "`portal_session_not_found`"),
    ))]
async fn read(request: RequestContext, id: PathId) -> Result<Response, Problem> {
    let ledger = &request.service.ledger;
    reach_min_position(&request.headers, &ledger.watch_head()).await?;
    let position = ledger.head();
    let session = load(&request, &id).await?;
    let service = &request.service;
    let view = PortalSessionView::as_of_the_log(&service.index, &session, service.now());
    request.show(position, session.version, &view)
}

/// Ends a session, or revokes an unused link. Everything that was created in the session ends with it.
#[utoipa::path(delete, path = "/v1/portal-sessions/{id}", operation_id = "revokePortalSession",
    tag = "Portal", params(ObjectId, IfMatch),
    responses(
        (status = 204, description = "the session has ended"),
        (status = 410, body = ProblemBody, description = "`portal_session_ended`: it had already ended"),
    ))]
async fn revoke(request: RequestContext, id: PathId) -> Result<Response, Problem> {
    let id = load(&request, &id).await?.id;
    let command = PortalSessionCommand::End { reason: EndReason::Revoked };
    request.execute_without_answer(Command::PortalSession(id, command)).await
}
