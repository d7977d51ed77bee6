//! Portfolios: the client organizations of a partner.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;
use keyledger_engine::domain::portfolio::{ClientLink, ClientLinkCommand};
use keyledger_engine::ledger::{Aggregate, Command};
use keyledger_engine::value::id::{ClientLinkId, OrganizationId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Code, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::answer::view::{ClientView, Page};
use crate::auth::caller::Caller;
use crate::request::body::{Json, NoFields};
use crate::request::execution::{Outcome, execute, outcome};
use crate::request::paging::{PageQuery, Paging};
use crate::request::precondition::reach_min_position;
use crate::request::query::PathId;
use crate::service::Service;

/// The calls about portfolios.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(link, unlink))
}

/// An organization of a path, if the caller may see it.
fn visible(caller: &Caller, id: &str) -> Result<OrganizationId, Problem> {
    let not_found = || Problem::of(Code::OrganizationNotFound);
    let id: OrganizationId = id.parse().map_err(|_| not_found())?;
    if caller.sees(&id) { Ok(id) } else { Err(not_found()) }
}

fn view(service: &Service, link: &ClientLink) -> ClientView {
    ClientView::of(link, service.index.organization(&link.id.client_id).as_deref())
}

/// Puts a client organization into a partner's portfolio, where the partner's own keys work for it from the answer on,
/// and keys for it alone can be made. Nothing happens when it is there already.
#[utoipa::path(put, path = "/v1/organizations/{partner}/clients/{client}", operation_id = "linkClient", tag = "Organizations", request_body = Option<NoFields>,
    params(("partner" = String, Path, description = "the partner's id"), ("client" = String, Path, description = "the client organization's id")),
    responses(
        (status = 200, body = ClientView, description = "the client as it is in the portfolio"),
        (status = 403, body = ProblemBody, description = "`organization_kind_not_allowed`: only an organization of kind partner has a portfolio"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`: the partner or the client"),
        (status = 410, body = ProblemBody, description = "`organization_deleted`: the partner or the client"),
        (status = 422, body = ProblemBody, description = "`invalid_request`: both are the same organization"),
    ))]
async fn link(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Path((partner, client)): Path<(String, String)>,
    Json { body, .. }: Json<NoFields>,
) -> Result<Response, Problem> {
    body.check()?;
    let id = ClientLinkId { partner_id: visible(&caller, &partner)?, client_id: visible(&caller, &client)? };
    let command = Command::ClientLink(id, ClientLinkCommand::Link);
    let committed = execute(&service, &caller, &headers, None, command).await?;
    let Outcome { object, version, position, .. } = outcome(committed, |aggregate| match aggregate {
        Aggregate::ClientLink(link) => {
            let version = link.version;
            Some((link, version))
        }
        _ => None,
    })?;
    Reply::at(position).version(version).json(&view(&service, &object))
}

/// Takes a client organization out of a partner's portfolio. From the answer on, every key that the partner made for it is
/// refused, and the partner's own keys no longer work for it; the deletions of the former follow in the log. Linking the
/// client again does not bring those keys back.
#[utoipa::path(delete, path = "/v1/organizations/{partner}/clients/{client}", operation_id = "unlinkClient", tag = "Organizations",
    params(("partner" = String, Path, description = "the partner's id"), ("client" = String, Path, description = "the client organization's id"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 204, description = "it is not in the portfolio any more"),
        (status = 404, body = ProblemBody, description = "`client_not_found`: it was not; `organization_not_found`: no such partner"),
    ))]
async fn unlink(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Path((partner, client)): Path<(String, String)>,
) -> Result<Response, Problem> {
    // A caller that is bound to the partner may let go of what it sees in the portfolio.
    let partner_id = visible(&caller, &partner)?;
    let client_id = client.parse().map_err(|_| Problem::of(Code::ClientNotFound))?;
    let command = Command::ClientLink(ClientLinkId { partner_id, client_id }, ClientLinkCommand::Unlink);
    let committed = execute(&service, &caller, &headers, None, command).await?;
    Ok(Reply::at(committed.position).empty())
}

/// Lists the clients in a partner's portfolio, in the order of their ids. Those that were deleted are left out.
#[utoipa::path(get, path = "/v1/organizations/{partner}/clients", operation_id = "listClients", tag = "Organizations",
    params(("partner" = String, Path, description = "the partner's id"), PageQuery),
    responses(
        (status = 200, body = Page<ClientView>, description = "a page of clients"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`"),
    ))]
async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(partner): PathId,
    paging: Paging,
) -> Result<Response, Problem> {
    let partner_id = visible(&caller, &partner)?;
    let after = paging.after_known::<OrganizationId>(|id| service.index.organization(id).is_some())?;
    reach_min_position(&headers, &service.index.watch()).await?;
    let position = service.index.position();
    if service.index.organization(&partner_id).is_none() {
        return Err(Problem::of(Code::OrganizationNotFound));
    }
    let (found, total) = service.index.clients(&partner_id, after.as_ref(), paging.limit + 1);
    let id = |link: &Arc<ClientLink>| link.id.client_id.to_string();
    Reply::at(position).json(&paging.page(found, total as u64, id, |link| view(&service, link)))
}
