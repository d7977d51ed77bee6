//! APIs and their scopes. A scope has no id of its own, so its key serves as its id.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;
use keyledger_engine::domain::resource_api::{Api, ApiCommand, ApiRegistered};
use keyledger_engine::ledger::Command;
use keyledger_engine::value::id::ApiId;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::text::{Audience, Name, Scope};
use keyledger_engine::value::token::TokenPrefix;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::answer::reply::Reply;
use crate::auth::caller::Caller;
use crate::request::body::{Checks, Field, Json, text};
use crate::request::execution::execute;
use crate::request::query::{PathId, QueryParameters};
use crate::service::Service;

fn living(service: &Service, id: &str) -> Result<Arc<Api>, Problem> {
    let api = id.parse().ok().and_then(|id: ApiId| service.index.api(id));
    api.filter(|api| api.deleted_at.is_none()).ok_or_else(|| Problem::of(Code::ApiNotFound))
}

fn shown_scope(scope: &Scope) -> Value {
    json!({ "id": scope.as_str(), "key": scope.as_str() })
}

fn shown(api: &Api) -> Map<String, Value> {
    let shown = json!({
        "id": api.id.to_string(),
        "name": api.name.as_str(),
        "audience": api.audience.as_str(),
        "is_management_api": false,
    });
    if let Value::Object(shown) = shown { shown } else { Map::new() }
}

fn shown_with_scopes(api: &Api) -> Map<String, Value> {
    let mut shown = shown(api);
    shown.insert("scopes".into(), api.scopes.iter().map(shown_scope).collect());
    shown
}

fn answer(position: Position, name: &str, content: Value) -> Result<Response, Problem> {
    Reply::at(position).json(&json!({ "code": "OK", "message": "Success", name: content }))
}

fn done(position: Position) -> Result<Response, Problem> {
    Reply::at(position).json(&super::answer::Status::OK)
}

pub(super) async fn list(
    State(service): State<Arc<Service>>,
    _caller: Caller,
    mut parameters: QueryParameters,
) -> Result<Response, Problem> {
    let expand = parameters.text("expand");
    parameters.finish()?;
    let show = if expand.as_deref() == Some("scopes") { shown_with_scopes } else { shown };
    let position = service.index.position();
    let apis = service.index.apis(None, usize::MAX);
    let living = apis.iter().filter(|api| api.deleted_at.is_none());
    answer(position, "apis", living.map(|api| show(api)).collect())
}

#[derive(Deserialize)]
pub(super) struct RegisterBody {
    #[serde(default)]
    name: Field,
    #[serde(default)]
    audience: Field,
}

pub(super) async fn register(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Json { body, bytes }: Json<RegisterBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let name = checks.required("name", &body.name, text(Name::new));
    let audience = checks.required("audience", &body.audience, text(Audience::new));
    checks.finish()?;
    let (Some(name), Some(audience)) = (name, audience) else {
        return Err(Problem::of(Code::InvalidRequest));
    };
    let facts = ApiRegistered { name, audience, token_prefix: TokenPrefix::default(), scopes: Vec::new() };
    let id = service.new_id();
    let command = Command::Api(id, ApiCommand::Register(facts));
    let committed =
        execute(&service, &caller, &headers, Some(("POST /api/v1/apis", &bytes)), command).await?;
    answer(committed.position, "api", json!({ "id": id.to_string() }))
}

pub(super) async fn read(
    State(service): State<Arc<Service>>,
    _caller: Caller,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let position = service.index.position();
    let api = living(&service, &id)?;
    let mut shown = shown_with_scopes(&api);
    // Keyledger does not restrict which applications may request an API's scopes.
    shown.insert("applications".into(), json!([]));
    answer(position, "api", shown.into())
}

pub(super) async fn delete(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let api = living(&service, &id)?;
    let committed =
        execute(&service, &caller, &headers, None, Command::Api(api.id, ApiCommand::Delete)).await?;
    done(committed.position)
}

pub(super) async fn scopes(
    State(service): State<Arc<Service>>,
    _caller: Caller,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let position = service.index.position();
    answer(position, "scopes", living(&service, &id)?.scopes.iter().map(shown_scope).collect())
}

/// Kinde's clients may also send a description, which is ignored.
#[derive(Deserialize)]
pub(super) struct ScopeBody {
    #[serde(default)]
    key: Field,
}

pub(super) async fn add_scope(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
    Json { body, .. }: Json<ScopeBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let scope = checks.required("key", &body.key, text(Scope::new));
    checks.finish()?;
    let Some(scope) = scope else { return Err(Problem::of(Code::InvalidRequest)) };
    let api = living(&service, &id)?;
    let mut scopes = api.scopes.clone();
    if scopes.contains(&scope) {
        return Err(Problem::field("/key", "is already a scope of the API"));
    }
    scopes.push(scope.clone());
    let position = set_scopes(&service, &caller, headers, &api, scopes).await?;
    answer(position, "scope", json!({ "id": scope.as_str() }))
}

/// Replaces an API's scopes unless the API has changed since it was read.
async fn set_scopes(
    service: &Arc<Service>,
    caller: &Caller,
    mut headers: HeaderMap,
    api: &Api,
    scopes: Vec<Scope>,
) -> Result<Position, Problem> {
    let version = http::HeaderValue::from_str(&format!("\"{}\"", api.version));
    headers.insert(http::header::IF_MATCH, version.map_err(|error| Problem::internal(&error))?);
    let command = Command::Api(api.id, ApiCommand::Edit { name: None, scopes: Some(scopes) });
    Ok(execute(service, caller, &headers, None, command).await?.position)
}

fn find<'a>(api: &'a Api, id: &str) -> Result<&'a Scope, Problem> {
    let scope = api.scopes.iter().find(|scope| scope.as_str() == id);
    scope.ok_or_else(|| Problem::new(Code::NotFound, "the API has no such scope"))
}

pub(super) async fn scope(
    State(service): State<Arc<Service>>,
    _caller: Caller,
    Path((id, scope)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let position = service.index.position();
    answer(position, "scope", shown_scope(find(&*living(&service, &id)?, &scope)?))
}

pub(super) async fn remove_scope(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Path((id, scope)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let api = living(&service, &id)?;
    let removed = find(&api, &scope)?;
    let scopes = api.scopes.iter().filter(|it| *it != removed).cloned().collect();
    done(set_scopes(&service, &caller, headers, &api, scopes).await?)
}
