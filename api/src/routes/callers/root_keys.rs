//! Root keys: the credentials of callers that manage or verify keys.

use std::sync::Arc;

use axum::response::Response;
use keyledger_engine::domain::root_key::{RootKey, RootKeyCommand, RootKeyCreated};
use keyledger_engine::ledger::Command;
use keyledger_engine::value::id::RootKeyId;
use keyledger_engine::value::text::Name;
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::Token;
use keyledger_projections::beside_the_log::last_use::UsedCaller;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{organization, permissions};
use crate::answer::code::Code;
use crate::answer::page::Page;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::auth::grant::Grant;
use crate::openapi::parameters::{IdempotencyKey, IfMatch, ObjectId};
use crate::request::body::{Checks, Field, JsonBody, text};
use crate::request::context::RequestContext;
use crate::request::execution::Outcome;
use crate::request::paging::BoundPaging;
use crate::request::query::{PathId, Query};
use crate::service::Service;

/// Returns the endpoints about root keys.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(read, revoke))
}

/// A root key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RootKey)]
struct RootKeyView {
    /// `rk_<ULID>`.
    id: String,
    /// The organization it is bound to, if any.
    organization_id: Option<String>,
    /// The display name.
    name: Option<String>,
    /// The permissions it grants.
    permissions: Vec<&'static str>,
    /// `active` or `revoked`.
    #[schema(example = "active")]
    status: &'static str,
    /// The first characters of its token.
    #[schema(example = "klroot_ab12")]
    start: String,
    /// The last four characters of its token.
    last_four: String,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The id of the actor that created it.
    created_by: String,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// When it was last used, to the minute. `null` if never.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    /// The address that it was last used from.
    last_used_ip: Option<String>,
    /// The number of its events; the `ETag`.
    version: u32,
}

impl RootKeyView {
    fn of(service: &Service, root_key: &RootKey) -> Self {
        let last = service.last_uses.of_caller(UsedCaller::RootKey(root_key.id));
        Self {
            id: root_key.id.to_string(),
            organization_id: root_key.organization_id.as_ref().map(ToString::to_string),
            name: root_key.name.as_ref().map(|name| name.as_str().into()),
            permissions: root_key.permissions.iter().map(|permission| permission.as_str()).collect(),
            status: if root_key.revoked_at.is_some() { "revoked" } else { "active" },
            start: root_key.hint.start.to_string(),
            last_four: root_key.hint.last_four.to_string(),
            created_at: root_key.created_at,
            created_by: root_key.created_by.to_string(),
            revoked_at: root_key.revoked_at,
            last_used_at: last.map(|last| last.at),
            last_used_ip: last.and_then(|last| last.ip).map(|ip| ip.to_string()),
            version: root_key.version.get(),
        }
    }
}

/// A new root key.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = CreateRootKey)]
struct CreateBody {
    /// The display name.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    name: Field,
    /// The permissions it grants: `keys:create`, `keys:read`, `keys:update`, `keys:revoke`, `keys:delete`,
    /// `keys:verify`, `organizations:read`, `organizations:write`, `apis:read`, `apis:write`, `events:read`,
    /// `applications:write`, `portal:write`, or `admin` for all.
    #[schema(value_type = Vec<String>, required = true)]
    #[serde(default)]
    permissions: Field,
    /// The only organization that it may see.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    organization_id: Field,
}

/// A new root key with its token.
#[derive(Serialize, ToSchema)]
struct RootKeyWithToken<'a> {
    /// The root key.
    root_key: RootKeyView,
    /// The token. It is shown only once, and is absent when the request repeats an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

/// Creates a root key. Only this answer shows its token.
#[utoipa::path(post, path = "/v1/root-keys", operation_id = "createRootKey", tag = "Root keys",
    request_body = CreateBody, params(IdempotencyKey),
    responses(
        (status = 201, body = RootKeyWithToken, description = "the root key and its token"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`"),
        (status = 410, body = ProblemBody, description = "`organization_deleted`"),
    ))]
async fn create(request: RequestContext, body: JsonBody<CreateBody>) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let name = checks.optional("name", &body.name, text(Name::new));
    let permissions = checks.required("permissions", &body.permissions, permissions);
    let organization_id = organization(&request, &mut checks, &body.organization_id);
    checks.unknown(&body.unknown);
    checks.finish()?;
    let permissions = permissions.ok_or_else(|| Problem::of(Code::InvalidRequest))?;
    let organization_id = request.owning_organization(organization_id)?;
    request.caller.require_all_of(Grant::new(&permissions, organization_id.as_ref()))?;
    let token =
        Token::generate_root(&mut request.service.randomness()).map_err(|error| Problem::internal(&error))?;
    let facts = RootKeyCreated { digest: token.digest(), hint: token.hint(), permissions };
    let command = RootKeyCommand::Create { organization_id, name, facts };
    let command = Command::RootKey(request.service.new_id(), command);
    let outcome: Outcome<RootKey> = request.execute_once("POST /v1/root-keys", &body.bytes, command).await?;
    let shown = RootKeyWithToken {
        root_key: RootKeyView::of(&request.service, &outcome.object),
        token: (!outcome.replayed).then(|| token.expose()),
    };
    outcome.created(&format!("/v1/root-keys/{}", outcome.object.id)).secret().json(&shown)
}

/// Returns a root key that the caller may see.
fn visible(request: &RequestContext, id: &str) -> Result<Arc<RootKey>, Problem> {
    let id = id.parse::<RootKeyId>().ok();
    request.visible(id.and_then(|id| request.service.index.root_key(id)), Code::RootKeyNotFound)
}

/// Lists root keys in the order of their creation, including revoked ones.
#[utoipa::path(get, path = "/v1/root-keys", operation_id = "listRootKeys", tag = "Root keys",
    params(BoundPaging),
    responses((status = 200, body = Page<RootKeyView>, description = "a page of root keys")))]
async fn list(request: RequestContext, Query(bound): Query<BoundPaging>) -> Result<Response, Problem> {
    let position = request.index_position();
    let service = &request.service;
    let index = &service.index;
    let page = if request.caller.bound_to().is_none() && !bound.is_narrowed() {
        let found = index.root_keys(bound.paging.after::<RootKeyId>()?.as_ref(), bound.paging.limit + 1);
        let total = index.root_key_count() as u64;
        bound.paging.page(found, total, |it| it.id.to_string(), |it| RootKeyView::of(service, it))
    } else {
        bound.page_of_visible(&request.caller, index.root_keys(None, usize::MAX), |it| {
            RootKeyView::of(service, it)
        })?
    };
    Reply::at(position).json(&page)
}

/// Returns a root key, even a revoked one. The answer never has its token.
#[utoipa::path(get, path = "/v1/root-keys/{id}", operation_id = "getRootKey", tag = "Root keys",
    params(ObjectId, IfMatch),
    responses(
        (status = 200, body = RootKeyView, description = "the root key"),
        (status = 404, body = ProblemBody, description = "`root_key_not_found`"),
    ))]
async fn read(request: RequestContext, id: PathId) -> Result<Response, Problem> {
    let position = request.index_position();
    let root_key = visible(&request, &id)?;
    request.show(position, root_key.version, &RootKeyView::of(&request.service, &root_key))
}

/// Revokes a root key. This is final: the next request with its token is rejected, and the portal sessions
/// that it created end.
#[utoipa::path(delete, path = "/v1/root-keys/{id}", operation_id = "revokeRootKey", tag = "Root keys",
    params(ObjectId, IfMatch),
    responses(
        (status = 204, description = "the root key is revoked"),
        (status = 409, body = ProblemBody, description = "`root_key_already_revoked`"),
    ))]
async fn revoke(request: RequestContext, id: PathId) -> Result<Response, Problem> {
    let root_key = visible(&request, &id)?;
    request.caller.require_all_of(Grant::of_root_key(&root_key))?;
    request.execute_without_answer(Command::RootKey(root_key.id, RootKeyCommand::Revoke)).await
}
