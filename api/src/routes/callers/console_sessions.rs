//! Console sessions for those who manage them: who is signed in with a root key or at the OpenID provider,
//! and ending a session. Portal sessions have endpoints of their own.

use std::sync::Arc;

use axum::response::Response;
use keyledger_engine::domain::portal_session::{EndReason, PortalSessionCommand};
use keyledger_engine::ledger::Command;
use keyledger_engine::value::actor::ActorKind;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::role::Role;
use keyledger_engine::value::text::Name;
use keyledger_engine::value::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::code::Code;
use crate::answer::page::Page;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::auth::console_session::{ConsoleSession, ConsoleSessionId, Holder};
use crate::auth::oidc::User;
use crate::openapi::parameters::ObjectId;
use crate::request::context::RequestContext;
use crate::request::paging::BoundPaging;
use crate::request::query::{PathId, Query};
use crate::service::Service;

/// Returns the endpoints about console sessions.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(end))
}

/// A console session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConsoleSession)]
struct ConsoleSessionView {
    /// `cs_<ULID>`.
    #[schema(example = "cs_01KAJX7Q5M3J6S2Y9W8V4T1R0P")]
    id: String,
    /// Who signed in: `root_key`, or `user` for a user of the OpenID provider.
    #[schema(example = "root_key")]
    kind: &'static str,
    /// The root key's id, or the user's.
    #[schema(example = "rk_01KAJX7Q5M3J6S2Y9W8V4T1R0P")]
    holder_id: String,
    /// The root key's name.
    name: Option<String>,
    /// The only organization that the session may see, if any.
    organization_id: Option<String>,
    /// A user's role in the organization.
    role: Option<&'static str>,
    /// The address from which the person signed in.
    #[schema(example = "203.0.113.7")]
    ip: Option<String>,
    /// The browser with which the person signed in.
    #[schema(example = "Mozilla/5.0")]
    user_agent: Option<String>,
    /// When the person signed in.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// When the session was last used.
    #[schema(value_type = String, format = DateTime)]
    last_used_at: Timestamp,
    /// When the session ends unless it is used before.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// A session with what is known of its holder.
struct Known {
    session: ConsoleSession,
    organization_id: Option<OrganizationId>,
    name: Option<Name>,
}

impl ConsoleSessionView {
    fn of(Known { session, organization_id, name }: &Known) -> Self {
        let (kind, holder_id, role) = match &session.holder {
            Holder::RootKey(id) => (ActorKind::RootKey, id.to_string(), None),
            Holder::User(user) => (ActorKind::User, user.id.as_str().to_owned(), user.role),
        };
        Self {
            id: session.id.to_string(),
            kind: kind.as_str(),
            holder_id,
            name: name.as_ref().map(|name| name.as_str().into()),
            organization_id: organization_id.as_ref().map(ToString::to_string),
            role: role.map(Role::as_str),
            ip: session.place.ip.map(|ip| ip.to_string()),
            user_agent: session.place.user_agent.as_ref().map(ToString::to_string),
            started_at: session.started_at,
            last_used_at: session.used_at,
            expires_at: session.expires_at,
        }
    }
}

/// Returns the sessions that the caller may see, oldest first.
fn visible(request: &RequestContext) -> Vec<Known> {
    let service = &request.service;
    // A session whose root key was revoked has ended, though nobody has noticed.
    let known = |session: ConsoleSession| match &session.holder {
        Holder::RootKey(id) => {
            let root_key = service.index.active_root_key(*id)?;
            let (organization_id, name) = (root_key.organization_id.clone(), root_key.name.clone());
            Some(Known { session, organization_id, name })
        }
        Holder::User(user) => {
            let organization_id = user.organization_id.clone();
            Some(Known { session, organization_id, name: None })
        }
    };
    let all = service.console_sessions.all(service.now()).into_iter().filter_map(known);
    all.filter(|it| request.caller.sees_owned_by(it.organization_id.as_ref())).collect()
}

/// Lists the people who are signed in to the console with a root key or at the OpenID provider, in the order
/// in which they signed in. A restart of the service signs all of them out. People who followed a portal link
/// are listed at `/v1/portal-sessions`.
#[utoipa::path(get, path = "/v1/console-sessions", operation_id = "listConsoleSessions", tag = "Portal",
    params(BoundPaging),
    responses((status = 200, body = Page<ConsoleSessionView>, description = "a page of sessions")))]
async fn list(request: RequestContext, Query(bound): Query<BoundPaging>) -> Result<Response, Problem> {
    let position = request.index_position();
    let after = bound.paging.after::<ConsoleSessionId>()?;
    let mut all = visible(&request);
    all.retain(|it| bound.has(it.organization_id.as_ref()));
    let page = bound.paging.page_of_all(all, after.as_ref(), |it| it.session.id, ConsoleSessionView::of);
    Reply::at(position).secret().json(&page)
}

/// Signs a person out of the console. If it is a user of the OpenID provider, the portal links and sessions
/// that the user created end too.
#[utoipa::path(delete, path = "/v1/console-sessions/{id}", operation_id = "endConsoleSession", tag = "Portal",
    params(ObjectId),
    responses(
        (status = 204, description = "the session has ended"),
        (status = 404, body = ProblemBody, description = "`console_session_not_found`"),
    ))]
async fn end(request: RequestContext, id: PathId) -> Result<Response, Problem> {
    let not_found = || Problem::of(Code::ConsoleSessionNotFound);
    let id: ConsoleSessionId = id.parse().map_err(|_| not_found())?;
    let found = visible(&request).into_iter().find(|it| it.session.id == id).ok_or_else(not_found)?;
    // Before the session, so that a failure leaves it in the list and the request can be repeated.
    if let Holder::User(user) = &found.session.holder {
        end_minted_by(&request, user).await?;
    }
    request.service.console_sessions.end_by_id(id);
    tracing::info!(actor = %request.caller.actor.id, session = %id, "a caller ended a console session");
    Ok(Reply::at(request.index_position()).empty())
}

/// Ends the portal sessions that a user of the OpenID provider created. The log does not know when the user's
/// own session ends, so nothing else would end them before they expire.
async fn end_minted_by(request: &RequestContext, user: &User) -> Result<(), Problem> {
    let mut minted = request.service.index.portal_sessions(None, usize::MAX);
    minted.retain(|session| {
        session.created_by_kind == ActorKind::User
            && *session.created_by == *user.id.as_str()
            && Some(&session.organization_id) == user.organization_id.as_ref()
    });
    for session in minted {
        let command = PortalSessionCommand::End { reason: EndReason::Revoked };
        match request.execute_without_answer(Command::PortalSession(session.id, command)).await {
            // It has ended meanwhile.
            Err(problem) if problem.code != Code::PortalSessionEnded => return Err(problem),
            _ => {}
        }
    }
    Ok(())
}
