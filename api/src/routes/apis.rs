//! APIs: the resource servers whose scopes keys may carry.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use keyledger_engine::domain::resource_api::{Api, ApiCommand, ApiRegistered};
use keyledger_engine::ledger::{Aggregate, Command, Committed};
use keyledger_engine::value::id::ApiId;
use keyledger_engine::value::text::{Audience, Name, Scope};
use keyledger_engine::value::token::TokenPrefix;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Code, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::answer::view::{ApiView, Page};
use crate::auth::caller::Caller;
use crate::request::body::{Checks, Field, Json, set, text};
use crate::request::execution::{Outcome, execute, outcome};
use crate::request::paging::{PageQuery, Paging};
use crate::request::precondition::{is_known, reach_min_position};
use crate::request::query::PathId;
use crate::service::Service;

/// The calls about APIs.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(register, list)).routes(routes!(read, edit, delete))
}

/// A new API.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = RegisterApi)]
struct RegisterBody {
    /// What people call it.
    #[schema(value_type = String, required = true, max_length = 1000)]
    #[serde(default)]
    name: Field,
    /// Whom its tokens are for, as OAuth 2.0 says audience; usually its address.
    #[schema(value_type = String, required = true, max_length = 255, example = "https://api.example.com")]
    #[serde(default)]
    audience: Field,
    /// The scopes that its keys may carry.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    scopes: Field,
    /// What its keys' tokens begin with, instead of `kl`; cannot be changed later.
    #[schema(value_type = Option<String>, pattern = "^[a-z][a-z0-9]{0,15}$", example = "acme")]
    #[serde(default)]
    token_prefix: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// Registers an API.
#[utoipa::path(post, path = "/v1/apis", operation_id = "registerApi", tag = "APIs", request_body = RegisterBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "names the call for 24 hours: repeated, it takes place once")),
    responses(
        (status = 201, body = ApiView, description = "the API"),
        (status = 422, body = ProblemBody, description = "`invalid_request` with every field that fails"),
    ))]
async fn register(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Json { body, bytes }: Json<RegisterBody>,
) -> Result<Response, Problem> {
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
    let id = service.new_id();
    let command = Command::Api(id, ApiCommand::Register(facts));
    let outcome =
        api_outcome(execute(&service, &caller, &headers, Some(("POST /v1/apis", &bytes)), command).await?)?;
    Reply::at(outcome.position)
        .status(StatusCode::CREATED)
        .version(outcome.version)
        .location(&format!("/v1/apis/{}", outcome.object.id))
        .replayed(outcome.replayed)
        .json(&ApiView::of(&outcome.object))
}

fn api_outcome(committed: Committed) -> Result<Outcome<Api>, Problem> {
    outcome(committed, |aggregate| match aggregate {
        Aggregate::Api(api) => {
            let version = api.version;
            Some((api, version))
        }
        _ => None,
    })
}

fn parse_id(id: &str) -> Result<ApiId, Problem> {
    id.parse().map_err(|_| Problem::of(Code::ApiNotFound))
}

/// Lists APIs in the order of their registration, deleted ones too.
#[utoipa::path(get, path = "/v1/apis", operation_id = "listApis", tag = "APIs", params(PageQuery),
    responses((status = 200, body = Page<ApiView>, description = "a page of APIs")))]
async fn list(
    State(service): State<Arc<Service>>,
    _caller: Caller,
    headers: HeaderMap,
    paging: Paging,
) -> Result<Response, Problem> {
    reach_min_position(&headers, &service.index.watch()).await?;
    let position = service.index.position();
    let found = service.index.apis(paging.after::<ApiId>()?.as_ref(), paging.limit + 1);
    let total = service.index.api_count() as u64;
    let page = paging.page(found, total, |it| it.id.to_string(), |it| ApiView::of(it));
    Reply::at(position).json(&page)
}

/// Shows an API, also a deleted one.
#[utoipa::path(get, path = "/v1/apis/{id}", operation_id = "getApi", tag = "APIs", params(("id" = String, Path, description = "its id"), ("If-None-Match" = Option<String>, Header, description = "the `ETag` that the caller has; 304 if it still is the present one"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 200, body = ApiView, description = "the API"),
        (status = 404, body = ProblemBody, description = "`api_not_found`"),
    ))]
async fn read(
    State(service): State<Arc<Service>>,
    _caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    reach_min_position(&headers, &service.index.watch()).await?;
    let position = service.index.position();
    let api = service.index.api(parse_id(&id)?).ok_or_else(|| Problem::of(Code::ApiNotFound))?;
    if is_known(&headers, api.version)? {
        return Ok(Reply::at(position).version(api.version).not_modified());
    }
    Reply::at(position).version(api.version).json(&ApiView::of(&api))
}

/// Changes to an API; what is absent stays.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = EditApi)]
struct EditBody {
    /// What people call it.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    name: Field,
    /// All scopes that its keys may carry from now on. Keys keep the scopes that they carry.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    scopes: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// Renames an API, or gives it other scopes.
#[utoipa::path(patch, path = "/v1/apis/{id}", operation_id = "editApi", tag = "APIs", request_body = EditBody,
    params(("id" = String, Path, description = "its id"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 200, body = ApiView, description = "the API after it"),
        (status = 410, body = ProblemBody, description = "`api_deleted`"),
        (status = 412, body = ProblemBody, description = "`version_conflict`"),
    ))]
async fn edit(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
    Json { body, .. }: Json<EditBody>,
) -> Result<Response, Problem> {
    let id = parse_id(&id)?;
    let mut checks = Checks::default();
    let name = checks.optional("name", &body.name, text(Name::new));
    let scopes = checks.optional("scopes", &body.scopes, set(Scope::COUNT_MAX, Scope::new));
    checks.unknown(&body.unknown);
    checks.finish()?;
    let command = Command::Api(id, ApiCommand::Edit { name, scopes });
    let outcome = api_outcome(execute(&service, &caller, &headers, None, command).await?)?;
    Reply::at(outcome.position).version(outcome.version).json(&ApiView::of(&outcome.object))
}

/// Deletes an API. From the answer on, its keys verify as WRONG_API.
#[utoipa::path(delete, path = "/v1/apis/{id}", operation_id = "deleteApi", tag = "APIs",
    params(("id" = String, Path, description = "its id"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 204, description = "it is deleted"),
        (status = 410, body = ProblemBody, description = "`api_deleted`: it was before"),
    ))]
async fn delete(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let command = Command::Api(parse_id(&id)?, ApiCommand::Delete);
    let committed = execute(&service, &caller, &headers, None, command).await?;
    Ok(Reply::at(committed.position).empty())
}
