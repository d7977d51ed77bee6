//! Portfolios: the client organizations of a partner.

use std::sync::Arc;

use axum::extract::Path;
use axum::response::Response;
use keyledger_engine::domain::organization::Organization;
use keyledger_engine::domain::portfolio::{ClientLink, ClientLinkCommand};
use keyledger_engine::ledger::Command;
use keyledger_engine::value::id::{ClientLinkId, OrganizationId};
use keyledger_engine::value::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::visible;
use crate::answer::code::Code;
use crate::answer::page::Page;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::openapi::parameters::IfMatch;
use crate::request::body::{Json, NoFields};
use crate::request::context::RequestContext;
use crate::request::execution::Outcome;
use crate::request::paging::Paging;
use crate::request::query::{PathId, Query};
use crate::service::Service;

/// Returns the endpoints about portfolios.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(link, unlink))
}

/// A client in a partner's portfolio.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Client)]
struct ClientView {
    /// The client organization.
    organization_id: String,
    /// The partner.
    partner_organization_id: String,
    /// The client's display name.
    name: Option<String>,
    /// When it was last linked.
    #[schema(value_type = String, format = DateTime)]
    linked_at: Timestamp,
    /// The id of the actor that linked it.
    linked_by: String,
    /// The number of the link's events; the `ETag`.
    version: u32,
}

impl ClientView {
    fn of(link: &ClientLink, client: Option<&Organization>) -> Self {
        Self {
            organization_id: link.id.client_id.to_string(),
            partner_organization_id: link.id.partner_id.to_string(),
            name: client.and_then(|client| client.name.as_ref()).map(|name| name.as_str().into()),
            linked_at: link.linked_at,
            linked_by: link.linked_by.to_string(),
            version: link.version.get(),
        }
    }
}

fn view(service: &Service, link: &ClientLink) -> ClientView {
    ClientView::of(link, service.index.organization(&link.id.client_id).as_deref())
}

/// Adds a client organization to a partner's portfolio. Once this is answered, the partner's own keys work
/// for the client, and keys for the client alone can be created. Nothing changes if the client is already in
/// the portfolio.
#[utoipa::path(put, path = "/v1/organizations/{partner}/clients/{client}", operation_id = "linkClient",
    tag = "Organizations", request_body = Option<NoFields>,
    params(
        ("partner" = String, Path, description = "the partner's id"),
        ("client" = String, Path, description = "the client organization's id"),
    ),
    responses(
        (status = 200, body = ClientView, description = "the client in the portfolio"),
        (status = 403, body = ProblemBody,
            description = "`organization_kind_not_allowed`: only an organization of kind partner has a \
                portfolio"),
        (status = 404, body = ProblemBody,
            description = "`organization_not_found`: the partner or the client"),
        (status = 410, body = ProblemBody, description = "`organization_deleted`: the partner or the client"),
        (status = 422, body = ProblemBody, description = "`invalid_request`: both are the same organization"),
    ))]
async fn link(
    request: RequestContext,
    Path((partner, client)): Path<(String, String)>,
    Json { body, .. }: Json<NoFields>,
) -> Result<Response, Problem> {
    body.check()?;
    let (partner_id, client_id) = (visible(&request.caller, &partner)?, visible(&request.caller, &client)?);
    let command = Command::ClientLink(ClientLinkId { partner_id, client_id }, ClientLinkCommand::Link);
    let outcome: Outcome<ClientLink> = request.execute(command).await?;
    outcome.reply().json(&view(&request.service, &outcome.object))
}

/// Removes a client organization from a partner's portfolio. Once this is answered, every key that the
/// partner created for the client is rejected, and the partner's own keys no longer work for it. The
/// deletions of the former follow in the log. Linking the client again does not restore those keys.
#[utoipa::path(delete, path = "/v1/organizations/{partner}/clients/{client}", operation_id = "unlinkClient",
    tag = "Organizations",
    params(
        ("partner" = String, Path, description = "the partner's id"),
        ("client" = String, Path, description = "the client organization's id"),
        IfMatch,
    ),
    responses(
        (status = 204, description = "the client is not in the portfolio any more"),
        (status = 404, body = ProblemBody,
            description = "`client_not_found`: it was not in the portfolio; `organization_not_found`: no \
                such partner"),
    ))]
async fn unlink(
    request: RequestContext,
    Path((partner, client)): Path<(String, String)>,
) -> Result<Response, Problem> {
    // A caller that is bound to the partner may unlink a client organization that it cannot see otherwise.
    let partner_id = visible(&request.caller, &partner)?;
    let client_id = client.parse().map_err(|_| Problem::of(Code::ClientNotFound))?;
    let id = ClientLinkId { partner_id, client_id };
    request.execute_without_answer(Command::ClientLink(id, ClientLinkCommand::Unlink)).await
}

/// Lists the clients in a partner's portfolio in the order of their ids, without deleted ones.
#[utoipa::path(get, path = "/v1/organizations/{partner}/clients", operation_id = "listClients",
    tag = "Organizations", params(("partner" = String, Path, description = "the partner's id"), Paging),
    responses(
        (status = 200, body = Page<ClientView>, description = "a page of clients"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`"),
    ))]
async fn list(
    request: RequestContext,
    partner: PathId,
    Query(paging): Query<Paging>,
) -> Result<Response, Problem> {
    let partner_id = visible(&request.caller, &partner)?;
    let index = &request.service.index;
    let after = paging.after_known::<OrganizationId>(|id| index.organization(id).is_some())?;
    let position = request.index_position();
    if index.organization(&partner_id).is_none() {
        return Err(Problem::of(Code::OrganizationNotFound));
    }
    let (found, total) = index.clients(&partner_id, after.as_ref(), paging.limit + 1);
    let id = |link: &Arc<ClientLink>| link.id.client_id.to_string();
    Reply::at(position).json(&paging.page(found, total as u64, id, |link| view(&request.service, link)))
}
