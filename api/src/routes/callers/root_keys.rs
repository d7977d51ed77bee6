//! Root keys: the credentials of those who manage or check keys.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use keyledger_engine::domain::root_key::{RootKey, RootKeyCommand, RootKeyCreated};
use keyledger_engine::ledger::{Aggregate, Command, Committed};
use keyledger_engine::value::id::{OrganizationId, RootKeyId};
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::text::Name;
use keyledger_engine::value::token::Token;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Code, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::answer::view::{Page, RootKeyView};
use crate::auth::caller::Caller;
use crate::request::body::{Checks, Field, Json, parsed, set, text};
use crate::request::execution::{Outcome, execute, outcome};
use crate::request::paging::{BoundPageQuery, BoundPaging};
use crate::request::precondition::{check_version, reach_min_position};
use crate::request::query::PathId;
use crate::service::Service;

/// The calls about root keys; all of them need the permission `admin`.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(read, revoke))
}

/// A new root key.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = CreateRootKey)]
struct CreateBody {
    /// What people call it.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    name: Field,
    /// What it allows: `keys:create`, `keys:read`, `keys:update`, `keys:revoke`, `keys:delete`, `keys:verify`,
    /// `organizations:read`, `organizations:write`, `apis:read`, `apis:write`, `events:read`, `applications:write`,
    /// `portal:write`, or `admin` for all.
    #[schema(value_type = Vec<String>, required = true)]
    #[serde(default)]
    permissions: Field,
    /// The only organization that it is to see.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    organization_id: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// A new root key with its token.
#[derive(Serialize, ToSchema)]
struct RootKeyWithToken<'a> {
    /// The root key.
    root_key: RootKeyView,
    /// The token, this once; left out when the call repeats an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

/// Creates a root key. The answer is the only one that shows its token.
#[utoipa::path(post, path = "/v1/root-keys", operation_id = "createRootKey", tag = "Root keys", request_body = CreateBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "names the call for 24 hours: repeated, it takes place once")),
    responses(
        (status = 201, body = RootKeyWithToken, description = "the root key and its token"),
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
    let name = checks.optional("name", &body.name, text(Name::new));
    let permissions = checks.required(
        "permissions",
        &body.permissions,
        set(Permission::names().count(), str::parse::<Permission>),
    );
    let organization_id = checks.optional("organization_id", &body.organization_id, parsed::<OrganizationId>);
    if permissions.as_ref().is_some_and(Vec::is_empty) {
        checks.fail("/permissions", "must name at least one permission");
    }
    if let Some(id) = &organization_id
        && caller.bound_to().is_none()
        && service.index.organization(id).is_none_or(|it| it.deleted_at.is_some())
    {
        checks.fail("/organization_id", "no organization has this id, or it was deleted");
    }
    checks.unknown(&body.unknown);
    checks.finish()?;
    let permissions = permissions.ok_or_else(|| Problem::of(Code::InvalidRequest))?;
    // Who is bound to an organization can only bind others to the same one.
    let organization_id = match (caller.bound_to(), organization_id) {
        (Some(bound), Some(id)) if *bound != id => return Err(Problem::of(Code::OrganizationNotFound)),
        (Some(bound), _) => Some(bound.clone()),
        (None, id) => id,
    };
    let id = service.new_id();
    let token = Token::generate_root(&mut service.randomness()).map_err(|error| Problem::internal(&error))?;
    let facts = RootKeyCreated { digest: token.digest(), hint: token.hint(), permissions };
    let command = Command::RootKey(id, RootKeyCommand::Create { organization_id, name, facts });
    let name = ("POST /v1/root-keys", bytes.as_ref());
    let outcome = root_key_outcome(execute(&service, &caller, &headers, Some(name), command).await?)?;
    let shown = RootKeyWithToken {
        root_key: RootKeyView::of(&outcome.object),
        token: (!outcome.replayed).then(|| token.expose()),
    };
    Reply::at(outcome.position)
        .status(StatusCode::CREATED)
        .version(outcome.version)
        .location(&format!("/v1/root-keys/{}", outcome.object.id))
        .secret()
        .replayed(outcome.replayed)
        .json(&shown)
}

fn root_key_outcome(committed: Committed) -> Result<Outcome<RootKey>, Problem> {
    outcome(committed, |aggregate| match aggregate {
        Aggregate::RootKey(root_key) => {
            let version = root_key.version;
            Some((root_key, version))
        }
        _ => None,
    })
}

/// A root key that the caller may see.
fn visible(service: &Service, caller: &Caller, id: &str) -> Result<Arc<RootKey>, Problem> {
    let root_key = id.parse::<RootKeyId>().ok().and_then(|id| service.index.root_key(id));
    root_key
        .filter(|it| caller.sees_owned_by(it.organization_id.as_ref()))
        .ok_or_else(|| Problem::of(Code::RootKeyNotFound))
}

/// Lists root keys in the order of their creation, revoked ones too.
#[utoipa::path(get, path = "/v1/root-keys", operation_id = "listRootKeys", tag = "Root keys", params(BoundPageQuery),
    responses((status = 200, body = Page<RootKeyView>, description = "a page of root keys")))]
async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    bound: BoundPaging,
) -> Result<Response, Problem> {
    reach_min_position(&headers, &service.index.watch()).await?;
    let position = service.index.position();
    let after = bound.paging.after::<RootKeyId>()?;
    let page = if caller.bound_to().is_none() && !bound.is_narrowed() {
        let found = service.index.root_keys(after.as_ref(), bound.paging.limit + 1);
        let total = service.index.root_key_count() as u64;
        bound.paging.page(found, total, |it| it.id.to_string(), |it| RootKeyView::of(it))
    } else {
        let mut all = service.index.root_keys(None, usize::MAX);
        all.retain(|it| {
            caller.sees_owned_by(it.organization_id.as_ref()) && bound.has(it.organization_id.as_ref())
        });
        bound.paging.page_of_all(all, after.as_ref(), |it| it.id, |it| RootKeyView::of(it))
    };
    Reply::at(position).json(&page)
}

/// Shows a root key, also a revoked one; never its token.
#[utoipa::path(get, path = "/v1/root-keys/{id}", operation_id = "getRootKey", tag = "Root keys", params(("id" = String, Path, description = "its id"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 200, body = RootKeyView, description = "the root key"),
        (status = 404, body = ProblemBody, description = "`root_key_not_found`"),
    ))]
async fn read(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    reach_min_position(&headers, &service.index.watch()).await?;
    let position = service.index.position();
    let root_key = visible(&service, &caller, &id)?;
    check_version(&headers, root_key.version)?;
    Reply::at(position).version(root_key.version).json(&RootKeyView::of(&root_key))
}

/// Revokes a root key, for good: the next call that carries it is refused.
#[utoipa::path(delete, path = "/v1/root-keys/{id}", operation_id = "revokeRootKey", tag = "Root keys",
    params(("id" = String, Path, description = "its id"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 204, description = "it is revoked"),
        (status = 409, body = ProblemBody, description = "`root_key_already_revoked`"),
    ))]
async fn revoke(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let id = visible(&service, &caller, &id)?.id;
    let command = Command::RootKey(id, RootKeyCommand::Revoke);
    let committed = execute(&service, &caller, &headers, None, command).await?;
    Ok(Reply::at(committed.position).empty())
}
