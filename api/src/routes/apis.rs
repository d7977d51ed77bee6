//! APIs: the resource servers whose scopes keys may carry.

use std::sync::Arc;

use axum::response::Response;
use keyledger_engine::domain::resource_api::{Api, ApiCommand, ApiRegistered};
use keyledger_engine::ledger::Command;
use keyledger_engine::value::id::ApiId;
use keyledger_engine::value::text::{Audience, Name, Scope};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::TokenPrefix;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::code::Code;
use crate::answer::page::Page;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::openapi::parameters::{IdempotencyKey, IfMatch, IfNoneMatch, ObjectId};
use crate::request::body::{Checks, Field, JsonBody, set, text};
use crate::request::context::RequestContext;
use crate::request::execution::Outcome;
use crate::request::paging::Paging;
use crate::request::query::{PathId, Query};
use crate::service::Service;

/// Returns the endpoints about APIs.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(register, list)).routes(routes!(read, edit, delete))
}

/// An API.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Api)]
struct ApiView {
    /// `api_<ULID>`.
    id: String,
    /// The display name.
    name: String,
    /// The audience of its tokens.
    #[schema(example = "https://api.example.com")]
    audience: String,
    /// The prefix of its keys' tokens.
    #[schema(example = "kl")]
    token_prefix: String,
    /// The scopes that its keys may carry.
    scopes: Vec<String>,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was deleted.
    #[schema(value_type = Option<String>, format = DateTime)]
    deleted_at: Option<Timestamp>,
    /// The number of its events; the `ETag`.
    version: u32,
}

impl ApiView {
    fn of(api: &Api) -> Self {
        Self {
            id: api.id.to_string(),
            name: api.name.as_str().into(),
            audience: api.audience.as_str().into(),
            token_prefix: api.token_prefix.as_str().into(),
            scopes: api.scopes.iter().map(|scope| scope.as_str().into()).collect(),
            created_at: api.created_at,
            deleted_at: api.deleted_at,
            version: api.version.get(),
        }
    }
}

/// A new API.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = RegisterApi)]
struct RegisterBody {
    /// The display name.
    #[schema(value_type = String, required = true, max_length = 1000)]
    #[serde(default)]
    name: Field,
    /// The audience of its tokens in the sense of OAuth 2.0, usually its address.
    #[schema(value_type = String, required = true, max_length = 255, example = "https://api.example.com")]
    #[serde(default)]
    audience: Field,
    /// The scopes that its keys may carry.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    scopes: Field,
    /// The prefix of its keys' tokens. Default `kl`. It cannot be changed later.
    #[schema(value_type = Option<String>, pattern = "^[a-z][a-z0-9]{0,15}$", example = "acme")]
    #[serde(default)]
    token_prefix: Field,
}

/// Registers an API.
#[utoipa::path(post, path = "/v1/apis", operation_id = "registerApi", tag = "APIs",
    request_body = RegisterBody, params(IdempotencyKey),
    responses((status = 201, body = ApiView, description = "the API")))]
async fn register(request: RequestContext, body: JsonBody<RegisterBody>) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let name = checks.required("name", &body.name, text(Name::new));
    let audience = checks.required("audience", &body.audience, text(Audience::new));
    let scopes =
        checks.optional("scopes", &body.scopes, set(Scope::COUNT_MAX, Scope::new)).unwrap_or_default();
    let token_prefix = checks.optional("token_prefix", &body.token_prefix, text(TokenPrefix::new));
    checks.unknown(&body.unknown);
    checks.finish()?;
    let (Some(name), Some(audience)) = (name, audience) else {
        return Err(Problem::of(Code::InvalidRequest));
    };
    let facts = ApiRegistered { name, audience, token_prefix: token_prefix.unwrap_or_default(), scopes };
    let command = Command::Api(request.service.new_id(), ApiCommand::Register(facts));
    let outcome: Outcome<Api> = request.execute_once("POST /v1/apis", &body.bytes, command).await?;
    outcome.created(&format!("/v1/apis/{}", outcome.object.id)).json(&ApiView::of(&outcome.object))
}

fn parse_id(id: &str) -> Result<ApiId, Problem> {
    id.parse().map_err(|_| Problem::of(Code::ApiNotFound))
}

/// Lists APIs in the order of their registration, including deleted ones.
#[utoipa::path(get, path = "/v1/apis", operation_id = "listApis", tag = "APIs", params(Paging),
    responses((status = 200, body = Page<ApiView>, description = "a page of APIs")))]
async fn list(request: RequestContext, Query(paging): Query<Paging>) -> Result<Response, Problem> {
    let position = request.index_position();
    let index = &request.service.index;
    let found = index.apis(paging.after::<ApiId>()?.as_ref(), paging.limit + 1);
    let page = paging.page(found, index.api_count() as u64, |it| it.id.to_string(), |it| ApiView::of(it));
    Reply::at(position).json(&page)
}

/// Returns an API, even a deleted one.
#[utoipa::path(get, path = "/v1/apis/{id}", operation_id = "getApi", tag = "APIs",
    params(ObjectId, IfNoneMatch, IfMatch),
    responses(
        (status = 200, body = ApiView, description = "the API"),
        (status = 404, body = ProblemBody, description = "`api_not_found`"),
    ))]
async fn read(request: RequestContext, id: PathId) -> Result<Response, Problem> {
    let position = request.index_position();
    let api = request.service.index.api(parse_id(&id)?).ok_or_else(|| Problem::of(Code::ApiNotFound))?;
    request.show_unless_known(position, api.version, &ApiView::of(&api))
}

/// Changes to an API. An absent field keeps its value.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = EditApi)]
struct EditBody {
    /// The display name.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    name: Field,
    /// All scopes that its keys may carry from now on. Existing keys keep their scopes.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    scopes: Field,
}

/// Renames an API, or replaces its scopes.
#[utoipa::path(patch, path = "/v1/apis/{id}", operation_id = "editApi", tag = "APIs", request_body = EditBody,
    params(ObjectId, IfMatch),
    responses(
        (status = 200, body = ApiView, description = "the changed API"),
        (status = 410, body = ProblemBody, description = "`api_deleted`"),
    ))]
async fn edit(request: RequestContext, id: PathId, body: JsonBody<EditBody>) -> Result<Response, Problem> {
    let id = parse_id(&id)?;
    let mut checks = Checks::default();
    let name = checks.optional("name", &body.name, text(Name::new));
    let scopes = checks.optional("scopes", &body.scopes, set(Scope::COUNT_MAX, Scope::new));
    checks.unknown(&body.unknown);
    checks.finish()?;
    let outcome: Outcome<Api> = request.execute(Command::Api(id, ApiCommand::Edit { name, scopes })).await?;
    outcome.reply().json(&ApiView::of(&outcome.object))
}

/// Deletes an API. Once this is answered, its keys verify as WRONG_API.
#[utoipa::path(delete, path = "/v1/apis/{id}", operation_id = "deleteApi", tag = "APIs",
    params(ObjectId, IfMatch),
    responses(
        (status = 204, description = "the API is deleted"),
        (status = 410, body = ProblemBody, description = "`api_deleted`: it was already deleted"),
    ))]
async fn delete(request: RequestContext, id: PathId) -> Result<Response, Problem> {
    request.execute_without_answer(Command::Api(parse_id(&id)?, ApiCommand::Delete)).await
}
