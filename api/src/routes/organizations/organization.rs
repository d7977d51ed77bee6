//! Organizations: the tenants that own keys.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use keyledger_engine::domain::organization::{Organization, OrganizationCommand, OrganizationKind};
use keyledger_engine::ledger::{Aggregate, Command, Committed};
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::text::Name;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Code, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::answer::view::{OrganizationView, Page};
use crate::auth::caller::Caller;
use crate::request::body::{Checks, Field, Json, parsed, text};
use crate::request::execution::{Outcome, execute, outcome};
use crate::request::paging::Paging;
use crate::request::precondition::{is_known, reach_min_position};
use crate::request::query::{PathId, QueryParameters};
use crate::service::Service;

/// The longest text that organizations can be searched for.
const SEARCHED_CHARS_MAX: usize = 200;

/// No organization is created with these ids: calls of other services have them in the place of one.
const RESERVED_IDS: [&str; 1] = ["api_keys"];

/// The calls about organizations.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(read, edit, delete))
}

/// A new organization.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = CreateOrganization)]
struct CreateBody {
    /// An id of the caller's choice, 1 to 64 characters out of `A-Z a-z 0-9 _ -`; drawn if left out.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    #[serde(default)]
    id: Field,
    /// What people call it.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    name: Field,
    /// `test`, `paid`, `partner` or `free`.
    #[schema(value_type = String, required = true, example = "paid")]
    #[serde(default)]
    kind: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// Creates an organization.
#[utoipa::path(post, path = "/v1/organizations", operation_id = "createOrganization", tag = "Organizations", request_body = CreateBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "names the call for 24 hours: repeated, it takes place once")),
    responses(
        (status = 201, body = OrganizationView, description = "the organization"),
        (status = 409, body = ProblemBody, description = "`organization_exists`"),
        (status = 422, body = ProblemBody, description = "`invalid_request` with every field that fails"),
    ))]
async fn create(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Json { body, bytes }: Json<CreateBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let id = checks.optional("id", &body.id, parsed::<OrganizationId>);
    if id.as_ref().is_some_and(|id| RESERVED_IDS.contains(&id.as_str())) {
        checks.fail("/id", "is reserved; choose another");
    }
    let name = checks.optional("name", &body.name, text(Name::new));
    let kind = checks.required("kind", &body.kind, parsed::<OrganizationKind>);
    checks.unknown(&body.unknown);
    checks.finish()?;
    let kind = kind.ok_or_else(|| Problem::of(Code::InvalidRequest))?;
    let id = match id {
        Some(id) => id,
        None => service.new_id(),
    };
    let command = Command::Organization(id, OrganizationCommand::Create { name, kind });
    let name = ("POST /v1/organizations", bytes.as_ref());
    let outcome = organization_outcome(execute(&service, &caller, &headers, Some(name), command).await?)?;
    let location = format!("/v1/organizations/{}", outcome.object.id);
    Reply::at(outcome.position)
        .status(StatusCode::CREATED)
        .version(outcome.version)
        .location(&location)
        .replayed(outcome.replayed)
        .json(&OrganizationView::of(&outcome.object))
}

fn organization_outcome(committed: Committed) -> Result<Outcome<Organization>, Problem> {
    outcome(committed, |aggregate| match aggregate {
        Aggregate::Organization(organization) => {
            let version = organization.version;
            Some((organization, version))
        }
        _ => None,
    })
}

/// The id in a path, if the caller may see that organization.
fn visible(caller: &Caller, id: &str) -> Result<OrganizationId, Problem> {
    let not_found = || Problem::of(Code::OrganizationNotFound);
    let id: OrganizationId = id.parse().map_err(|_| not_found())?;
    if caller.sees(&id) { Ok(id) } else { Err(not_found()) }
}

/// Which organizations. It describes the parameters; [`QueryParameters`] reads them.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
struct ListQuery {
    /// Only those whose id or name holds this text, in whatever case; at most 200 characters.
    #[param(max_length = 200)]
    q: Option<String>,
    /// How many organizations: 1 to 200; 50 if left out.
    limit: Option<u32>,
    /// The `next_cursor` of the page before; `q` must be the same.
    cursor: Option<String>,
}

/// Lists organizations in the order of their ids, deleted ones too.
#[utoipa::path(get, path = "/v1/organizations", operation_id = "listOrganizations", tag = "Organizations", params(ListQuery),
    responses((status = 200, body = Page<OrganizationView>, description = "a page of organizations")))]
async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    mut parameters: QueryParameters,
) -> Result<Response, Problem> {
    let paging = Paging::of(&mut parameters);
    let searched = parameters.text_or_empty("q").map(|text| text.to_lowercase());
    if searched.as_ref().is_some_and(|text| text.chars().count() > SEARCHED_CHARS_MAX) {
        parameters.fail("q", format!("must have at most {SEARCHED_CHARS_MAX} characters"));
    }
    parameters.finish()?;
    reach_min_position(&headers, &service.index.watch()).await?;
    let position = service.index.position();
    let is_found = |it: &Organization| searched.as_deref().is_none_or(|text| has_text(it, text));
    if let Some(id) = caller.bound_to() {
        let own = service.index.organization(id).filter(|it| is_found(it));
        let data = own.iter().map(|it| OrganizationView::of(it)).collect::<Vec<_>>();
        let total = data.len() as u64;
        return Reply::at(position).json(&Page { data, next_cursor: None, total, total_capped: false });
    }
    let after = paging.after_known::<OrganizationId>(|id| service.index.organization(id).is_some())?;
    if let Some(text) = searched {
        let shared = Arc::clone(&service);
        let search = move || {
            let mut all = shared.index.organizations(None, usize::MAX);
            all.retain(|it| has_text(it, &text));
            all
        };
        let all = service.blocking(search).await?;
        let page = paging.page_of_all(all, after.as_ref(), |it| it.id.clone(), |it| OrganizationView::of(it));
        return Reply::at(position).json(&page);
    }
    let found = service.index.organizations(after.as_ref(), paging.limit + 1);
    let total = service.index.organization_count() as u64;
    let page = paging.page(found, total, |it| it.id.to_string(), |it| OrganizationView::of(it));
    Reply::at(position).json(&page)
}

/// Whether an organization's id or name holds a text that is in lower case.
fn has_text(organization: &Organization, text: &str) -> bool {
    let has = |own: &str| own.to_lowercase().contains(text);
    has(organization.id.as_str()) || organization.name.as_ref().is_some_and(|name| has(name.as_str()))
}

/// Shows an organization, also a deleted one.
#[utoipa::path(get, path = "/v1/organizations/{id}", operation_id = "getOrganization", tag = "Organizations", params(("id" = String, Path, description = "its id"), ("If-None-Match" = Option<String>, Header, description = "the `ETag` that the caller has; 304 if it still is the present one"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 200, body = OrganizationView, description = "the organization"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`"),
    ))]
async fn read(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let id = visible(&caller, &id)?;
    reach_min_position(&headers, &service.index.watch()).await?;
    let position = service.index.position();
    let organization =
        service.index.organization(&id).ok_or_else(|| Problem::of(Code::OrganizationNotFound))?;
    if is_known(&headers, organization.version)? {
        return Ok(Reply::at(position).version(organization.version).not_modified());
    }
    Reply::at(position).version(organization.version).json(&OrganizationView::of(&organization))
}

/// Changes to an organization; what is absent stays.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = EditOrganization)]
struct EditBody {
    /// What people call it; `null` clears.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    name: Field,
    /// `test`, `paid`, `partner` or `free`. Keys that exist stay as they are.
    #[schema(value_type = Option<String>, example = "paid")]
    #[serde(default)]
    kind: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// Renames an organization, or gives it another kind.
#[utoipa::path(patch, path = "/v1/organizations/{id}", operation_id = "editOrganization", tag = "Organizations", request_body = EditBody,
    params(("id" = String, Path, description = "its id"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 200, body = OrganizationView, description = "the organization after it"),
        (status = 410, body = ProblemBody, description = "`organization_deleted`"),
        (status = 412, body = ProblemBody, description = "`version_conflict`"),
    ))]
async fn edit(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
    Json { body, .. }: Json<EditBody>,
) -> Result<Response, Problem> {
    let id = visible(&caller, &id)?;
    let mut checks = Checks::default();
    let name = checks.change("name", &body.name, text(Name::new));
    let kind = checks.optional("kind", &body.kind, parsed::<OrganizationKind>);
    checks.unknown(&body.unknown);
    checks.finish()?;
    let command = Command::Organization(id, OrganizationCommand::Edit { name, kind });
    let outcome = organization_outcome(execute(&service, &caller, &headers, None, command).await?)?;
    Reply::at(outcome.position).version(outcome.version).json(&OrganizationView::of(&outcome.object))
}

/// Deletes an organization. From the answer on, every key of it is refused; their own deletions follow in the log.
#[utoipa::path(delete, path = "/v1/organizations/{id}", operation_id = "deleteOrganization", tag = "Organizations",
    params(("id" = String, Path, description = "its id"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 204, description = "it is deleted"),
        (status = 410, body = ProblemBody, description = "`organization_deleted`: it was before"),
    ))]
async fn delete(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let id = visible(&caller, &id)?;
    let command = Command::Organization(id, OrganizationCommand::Delete);
    let committed = execute(&service, &caller, &headers, None, command).await?;
    Ok(Reply::at(committed.position).empty())
}
