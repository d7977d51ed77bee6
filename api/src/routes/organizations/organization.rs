//! Organizations: the tenants that own keys.

use std::sync::Arc;

use axum::response::Response;
use keyledger_engine::domain::organization::{Organization, OrganizationCommand, OrganizationKind};
use keyledger_engine::ledger::Command;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::text::Name;
use keyledger_engine::value::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::visible;
use crate::answer::code::Code;
use crate::answer::page::Page;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::openapi::parameters::{IdempotencyKey, IfMatch, IfNoneMatch, ObjectId};
use crate::request::body::{Checks, Field, JsonBody, parsed, text};
use crate::request::context::RequestContext;
use crate::request::execution::Outcome;
use crate::request::paging::Paging;
use crate::request::query::{FromQuery, PathId, Query, QueryParameters};
use crate::service::Service;

/// The longest text to search organizations for.
const SEARCHED_CHARS_MAX: usize = 200;

/// Ids that no organization may have, because endpoints of other services have them in the place of an id.
const RESERVED_IDS: [&str; 1] = ["api_keys"];

/// Returns the endpoints about organizations.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(read, edit, delete))
}

/// An organization.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Organization)]
struct OrganizationView {
    /// `org_<ULID>`, or the id that its creator chose.
    id: String,
    /// The display name.
    name: Option<String>,
    /// `test`, `paid`, `partner` or `free`.
    #[schema(example = "paid")]
    kind: &'static str,
    /// `active` or `deleted`.
    #[schema(example = "active")]
    status: &'static str,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was deleted.
    #[schema(value_type = Option<String>, format = DateTime)]
    deleted_at: Option<Timestamp>,
    /// The number of its events; the `ETag`.
    version: u32,
}

impl OrganizationView {
    fn of(organization: &Organization) -> Self {
        Self {
            id: organization.id.to_string(),
            name: organization.name.as_ref().map(|name| name.as_str().into()),
            kind: organization.kind.as_str(),
            status: organization.status().as_str(),
            created_at: organization.created_at,
            deleted_at: organization.deleted_at,
            version: organization.version.get(),
        }
    }
}

/// A new organization.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = CreateOrganization)]
struct CreateBody {
    /// An id of the caller's choice: 1 to 64 characters of `A-Z a-z 0-9 _ -`. Default: a new id.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    #[serde(default)]
    id: Field,
    /// The display name.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    name: Field,
    /// `test`, `paid`, `partner` or `free`.
    #[schema(value_type = String, required = true, example = "paid")]
    #[serde(default)]
    kind: Field,
}

/// Creates an organization.
#[utoipa::path(post, path = "/v1/organizations", operation_id = "createOrganization", tag = "Organizations",
    request_body = CreateBody, params(IdempotencyKey),
    responses(
        (status = 201, body = OrganizationView, description = "the organization"),
        (status = 409, body = ProblemBody, description = "`organization_exists`"),
    ))]
async fn create(request: RequestContext, body: JsonBody<CreateBody>) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let id = checks.optional("id", &body.id, parsed::<OrganizationId>);
    if id.as_ref().is_some_and(|id| RESERVED_IDS.contains(&id.as_str())) {
        checks.fail("/id", "is reserved; choose another id");
    }
    let name = checks.optional("name", &body.name, text(Name::new));
    let kind = checks.required("kind", &body.kind, parsed::<OrganizationKind>);
    checks.unknown(&body.unknown);
    checks.finish()?;
    let kind = kind.ok_or_else(|| Problem::of(Code::InvalidRequest))?;
    let id = id.unwrap_or_else(|| request.service.new_id());
    let command = Command::Organization(id, OrganizationCommand::Create { name, kind });
    let outcome: Outcome<Organization> =
        request.execute_once("POST /v1/organizations", &body.bytes, command).await?;
    outcome
        .created(&format!("/v1/organizations/{}", outcome.object.id))
        .json(&OrganizationView::of(&outcome.object))
}

/// A text to search for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct Search {
    /// Only organizations whose id or name contains this text, in any case. At most 200 characters.
    #[param(max_length = 200)]
    q: Option<String>,
}

/// The organizations that a request asks for.
struct ListQuery {
    search: Search,
    paging: Paging,
}

impl IntoParams for ListQuery {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        [Search::into_params(&place), Paging::into_params(place)].concat()
    }
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut QueryParameters) -> Self {
        let paging = Paging::from_query(parameters);
        Self { paging, search: Search { q: parameters.search("q", SEARCHED_CHARS_MAX) } }
    }
}

/// Lists organizations in the order of their ids, including deleted ones.
#[utoipa::path(get, path = "/v1/organizations", operation_id = "listOrganizations", tag = "Organizations",
    params(ListQuery),
    responses((status = 200, body = Page<OrganizationView>, description = "a page of organizations")))]
async fn list(request: RequestContext, Query(query): Query<ListQuery>) -> Result<Response, Problem> {
    let ListQuery { search, paging } = query;
    let searched = search.q.map(|text| text.to_lowercase());
    let service = &request.service;
    let position = request.index_position();
    if let Some(id) = request.caller.bound_to() {
        let is_found = |it: &Organization| searched.as_deref().is_none_or(|text| has_text(it, text));
        let own = service.index.organization(id).filter(|it| is_found(it));
        let page = Page::whole(own.iter().map(|it| OrganizationView::of(it)).collect());
        return Reply::at(position).json(&page);
    }
    let after = paging.after_known::<OrganizationId>(|id| service.index.organization(id).is_some())?;
    let page = if let Some(text) = searched {
        let shared = Arc::clone(service);
        let search = move || {
            let mut all = shared.index.organizations(None, usize::MAX);
            all.retain(|it| has_text(it, &text));
            all
        };
        let all = service.blocking(search).await?;
        paging.page_of_all(all, after.as_ref(), |it| it.id.clone(), |it| OrganizationView::of(it))
    } else {
        let found = service.index.organizations(after.as_ref(), paging.limit + 1);
        let total = service.index.organization_count() as u64;
        paging.page(found, total, |it| it.id.to_string(), |it| OrganizationView::of(it))
    };
    Reply::at(position).json(&page)
}

/// Returns whether an organization's id or name contains a lower-case text.
fn has_text(organization: &Organization, text: &str) -> bool {
    let has = |own: &str| own.to_lowercase().contains(text);
    has(organization.id.as_str()) || organization.name.as_ref().is_some_and(|name| has(name.as_str()))
}

/// Returns an organization, even a deleted one.
#[utoipa::path(get, path = "/v1/organizations/{id}", operation_id = "getOrganization", tag = "Organizations",
    params(ObjectId, IfNoneMatch, IfMatch),
    responses(
        (status = 200, body = OrganizationView, description = "the organization"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`"),
    ))]
async fn read(request: RequestContext, id: PathId) -> Result<Response, Problem> {
    let id = visible(&request.caller, &id)?;
    let position = request.index_position();
    let found = request.service.index.organization(&id);
    let organization = found.ok_or_else(|| Problem::of(Code::OrganizationNotFound))?;
    request.show_unless_known(position, organization.version, &OrganizationView::of(&organization))
}

/// Changes to an organization. An absent field keeps its value.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = EditOrganization)]
struct EditBody {
    /// The display name. `null` clears it.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    name: Field,
    /// `test`, `paid`, `partner` or `free`. Existing keys do not change. Only callers that are not bound to
    /// an organization can change it.
    #[schema(value_type = Option<String>, example = "paid")]
    #[serde(default)]
    kind: Field,
}

/// Renames an organization, or changes its kind.
#[utoipa::path(patch, path = "/v1/organizations/{id}", operation_id = "editOrganization",
    tag = "Organizations", request_body = EditBody, params(ObjectId, IfMatch),
    responses(
        (status = 200, body = OrganizationView, description = "the changed organization"),
        (status = 403, body = ProblemBody,
            description = "`forbidden`, also for `kind` from a caller that is bound to an organization"),
        (status = 410, body = ProblemBody, description = "`organization_deleted`"),
    ))]
async fn edit(request: RequestContext, id: PathId, body: JsonBody<EditBody>) -> Result<Response, Problem> {
    let id = visible(&request.caller, &id)?;
    let mut checks = Checks::default();
    let name = checks.change("name", &body.name, text(Name::new));
    let kind = checks.optional("kind", &body.kind, parsed::<OrganizationKind>);
    checks.unknown(&body.unknown);
    checks.finish()?;
    if kind.is_some() {
        request.caller.require_unbound("an organization's kind")?;
    }
    let command = Command::Organization(id, OrganizationCommand::Edit { name, kind });
    let outcome: Outcome<Organization> = request.execute(command).await?;
    outcome.reply().json(&OrganizationView::of(&outcome.object))
}

/// Deletes an organization. Once this is answered, all its keys are rejected. Their own deletions follow in
/// the log.
#[utoipa::path(delete, path = "/v1/organizations/{id}", operation_id = "deleteOrganization",
    tag = "Organizations", params(ObjectId, IfMatch),
    responses(
        (status = 204, description = "the organization is deleted"),
        (status = 410, body = ProblemBody, description = "`organization_deleted`: it was already deleted"),
    ))]
async fn delete(request: RequestContext, id: PathId) -> Result<Response, Problem> {
    let id = visible(&request.caller, &id)?;
    request.execute_without_answer(Command::Organization(id, OrganizationCommand::Delete)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::query::assert_documented_is_read;

    #[test]
    fn the_documented_query_is_read() {
        assert_documented_is_read::<ListQuery>();
    }
}
