//! Kintsugi's endpoints for keys of partners and organizations (docs/compat-kintsugi.md). Errors have the
//! form of FastAPI, on which the original runs.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Query, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use http::request::Parts;
use http::{HeaderName, StatusCode};
use keyledger_engine::domain::key::{CreateKey, Key, KeyCommand, Owner, OwnerKind};
use keyledger_engine::ledger::Command;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::text::Metadata;
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::key_list::KeyQuery;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::answer::code::Code;
use crate::answer::problem::{FieldError, Problem};
use crate::answer::reply::Reply;
use crate::auth::caller::Caller;
use crate::request::body::{BodyBytes, Checks, Field, parsed};
use crate::request::execution::execute;
use crate::request::json_text::read_object;
use crate::request::precondition::reach_in;
use crate::request::query::PathId;
use crate::routes::keys::issuing::{draw_token, issue};
use crate::routes::keys::key::load_any;
use crate::service::Service;

const ORGANIZATION_ID: HeaderName = HeaderName::from_static("x-organization-id");
const PARTNER_ID: HeaderName = HeaderName::from_static("x-partner-id");
/// The default number of keys on a page, as in PropelAuth.
const PAGE_SIZE_DEFAULT: usize = 10;
const PAGE_SIZE_MAX: usize = 100;
/// The most keys before and on a page. Pages are numbered, so a late page costs as much as all pages before
/// it.
const KEYS_MAX: usize = 10_000;

pub(super) fn router() -> Router<Arc<Service>> {
    Router::new()
        .route("/v2/partner/api_keys", post(create_partner_key).get(list_partner_keys))
        .route("/v2/partner/api_keys/{api_key_id}", delete(delete_partner_key))
        .route("/v1/organizations/api_keys", post(create_organization_key))
        .layer(middleware::map_response(in_fastapi_form))
}

/// The organization that a request names.
struct Tenant(OrganizationId);

impl<S: Send + Sync> FromRequestParts<S> for Tenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let header = parts.headers.get(ORGANIZATION_ID).or_else(|| parts.headers.get(PARTNER_ID));
        let Some(header) = header else {
            return Err(Problem::field("header/x-organization-id", "Field required"));
        };
        let id = header.to_str().ok().and_then(|id| id.parse().ok());
        id.map(Self).ok_or_else(|| Problem::of(Code::OrganizationNotFound))
    }
}

/// Both spellings are accepted, because the two versions of the original differ.
#[derive(Deserialize)]
struct CreateBody {
    #[serde(default, alias = "client_organization_id", rename = "clientOrganizationId")]
    client_organization_id: Field,
    #[serde(default, alias = "expires_at_seconds", rename = "expiresAtSeconds")]
    expires_at_seconds: Field,
    #[serde(default)]
    metadata: Field,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Created<'a> {
    api_key_id: String,
    /// Absent when the request repeats an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key_token: Option<&'a str>,
}

async fn create_partner_key(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Tenant(organization_id): Tenant,
    headers: http::HeaderMap,
    BodyBytes(body): BodyBytes,
) -> Result<Response, Problem> {
    create(&service, &caller, &headers, "POST /v2/partner/api_keys", organization_id, &body, |client_id| {
        client_id.map_or_else(Owner::partner, Owner::client)
    })
    .await
}

async fn create_organization_key(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Tenant(organization_id): Tenant,
    headers: http::HeaderMap,
    BodyBytes(body): BodyBytes,
) -> Result<Response, Problem> {
    let owner = |_| Owner::in_organization(false);
    create(&service, &caller, &headers, "POST /v1/organizations/api_keys", organization_id, &body, owner)
        .await
}

async fn create(
    service: &Arc<Service>,
    caller: &Caller,
    headers: &http::HeaderMap,
    endpoint: &str,
    organization_id: OrganizationId,
    bytes: &[u8],
    owner: impl FnOnce(Option<OrganizationId>) -> Owner,
) -> Result<Response, Problem> {
    let body: CreateBody = read_object(bytes)?;
    let mut checks = Checks::default();
    let client_id = checks.optional("clientOrganizationId", &body.client_organization_id, parsed);
    let expires_at = checks.optional("expiresAtSeconds", &body.expires_at_seconds, seconds);
    let metadata = checks.optional("metadata", &body.metadata, |value| {
        Metadata::new(value).map_err(|error| vec![(String::new(), error.to_string())])
    });
    checks.finish()?;
    let environment = Environment::Production;
    let token = draw_token(service, None, environment)?;
    let key = CreateKey {
        organization_id,
        api_id: None,
        owner: owner(client_id),
        user_id: None,
        name: None,
        description: None,
        metadata,
        environment,
        scopes: Vec::new(),
        expires_at,
        digest: token.digest(),
        hint: token.hint(),
    };
    let name = format!("{endpoint} {}", key.organization_id);
    let outcome = issue(service, caller, headers, (&name, bytes), key).await?;
    let created = Created {
        api_key_id: outcome.object.id.to_string(),
        api_key_token: (!outcome.replayed).then(|| token.expose()),
    };
    Reply::at(outcome.position).status(StatusCode::CREATED).secret().replayed(outcome.replayed).json(&created)
}

/// Reads seconds since 1970.
fn seconds(value: &Value) -> crate::request::body::Reading<Timestamp> {
    let wrong = |detail: String| vec![(String::new(), detail)];
    let seconds =
        value.as_i64().ok_or_else(|| wrong("must be a whole number of seconds since 1970".into()))?;
    Timestamp::writable(seconds.saturating_mul(1_000)).map_err(|error| wrong(error.to_string()))
}

/// A key in a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedKey {
    api_key_id: String,
    created_at: i64,
    expires_at_seconds: Option<i64>,
    metadata: Option<Box<RawValue>>,
    user_id: Option<String>,
    org_id: String,
    client_organization_id: Option<String>,
    display_name: Option<String>,
}

impl ListedKey {
    fn of(key: &Key) -> Self {
        let seconds = |time: Timestamp| time.millis().div_euclid(1_000);
        Self {
            api_key_id: key.id.to_string(),
            created_at: seconds(key.created_at),
            expires_at_seconds: key.expires_at.map(seconds),
            metadata: key.metadata.as_ref().and_then(|it| RawValue::from_string(it.as_json().into()).ok()),
            user_id: key.user_id.as_ref().map(|user_id| user_id.as_str().into()),
            org_id: key.organization_id.to_string(),
            client_organization_id: key.owner.client_id.as_ref().map(ToString::to_string),
            display_name: key.name.as_ref().map(|name| name.as_str().into()),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyPage {
    api_keys: Vec<ListedKey>,
    total_api_keys: u64,
    current_page: usize,
    page_size: usize,
    has_more_results: bool,
}

#[derive(Deserialize)]
struct PageQuery {
    #[serde(alias = "page_number", rename = "pageNumber")]
    page_number: Option<String>,
    #[serde(alias = "page_size", rename = "pageSize")]
    page_size: Option<String>,
}

impl PageQuery {
    fn read(self) -> Result<(usize, usize), Problem> {
        let mut errors = Vec::new();
        let mut number = |name: &str, text: Option<String>, default, least, most| {
            let number = text.map_or(Some(default), |text| text.parse::<usize>().ok());
            number.filter(|number| (least..=most).contains(number)).unwrap_or_else(|| {
                let detail = format!("must be a whole number from {least} to {most}");
                errors.push(FieldError { pointer: format!("?{name}"), detail });
                default
            })
        };
        let size = number("pageSize", self.page_size, PAGE_SIZE_DEFAULT, 1, PAGE_SIZE_MAX);
        let page = number("pageNumber", self.page_number, 0, 0, KEYS_MAX / size - 1);
        if errors.is_empty() { Ok((page, size)) } else { Err(Problem::fields(errors)) }
    }
}

async fn list_partner_keys(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Tenant(organization_id): Tenant,
    query: Result<Query<PageQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    if !caller.sees(&organization_id) || service.index.organization(&organization_id).is_none() {
        return Err(Problem::of(Code::OrganizationNotFound));
    }
    let Query(query) = query.map_err(|error| Problem::field("?", error.body_text()))?;
    let (number, size) = query.read()?;
    // These clients send no positions, and must see everything that was answered to them.
    reach_in(service.ledger.head(), &service.key_list_handle).await?;
    let mut query = KeyQuery::new(service.now());
    query.organization_id = Some(organization_id);
    query.owner = vec![OwnerKind::Partner, OwnerKind::Client];
    query.limit = (number + 1) * size;
    let list = service.key_list.clone();
    let page = service.blocking(move || list.query(&query)).await??;
    let shown = KeyPage {
        api_keys: page.keys.iter().skip(number * size).map(ListedKey::of).collect(),
        total_api_keys: page.total,
        current_page: number,
        page_size: size,
        has_more_results: page.next_cursor.is_some(),
    };
    Reply::at(page.position).json(&shown)
}

async fn delete_partner_key(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Tenant(organization_id): Tenant,
    headers: http::HeaderMap,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let key = load_any(&service, &caller, &id).await?;
    let of_portfolio = matches!(key.owner.kind, OwnerKind::Partner | OwnerKind::Client);
    if key.organization_id != organization_id || !of_portfolio {
        return Err(Problem::of(Code::KeyNotFound));
    }
    let command = Command::Key(key.id, KeyCommand::Delete);
    let committed = execute(&service, &caller, &headers, None, command).await?;
    Reply::at(committed.position).json(&json!({}))
}

/// An invalid part of a request in FastAPI's form.
#[derive(Serialize)]
struct ValidationError {
    loc: Vec<String>,
    msg: String,
    r#type: &'static str,
}

impl ValidationError {
    fn of(error: FieldError) -> Self {
        let place = match error.pointer.strip_prefix('?') {
            Some(name) => format!("query/{name}"),
            None if error.pointer.is_empty() => "body".into(),
            None => error.pointer.strip_prefix('/').map_or(error.pointer.clone(), |it| format!("body/{it}")),
        };
        let kind = if error.detail == "Field required" { "missing" } else { "value_error" };
        let loc = place.split('/').map(|name| spelled(name).to_owned()).collect();
        Self { loc, msg: error.detail, r#type: kind }
    }
}

/// Returns a field's name in Kintsugi's API.
fn spelled(name: &str) -> &str {
    match name {
        "expires_at" => "expiresAtSeconds",
        "organization_id" => "x-organization-id",
        name => name,
    }
}

async fn in_fastapi_form(mut response: Response) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    let (status, body) = match problem.code {
        Code::MalformedRequest => {
            let loc = vec!["body".to_owned()];
            let error = ValidationError { loc, msg: problem.detail, r#type: "json_invalid" };
            (StatusCode::UNPROCESSABLE_ENTITY, json!({ "detail": [error] }))
        }
        _ if !problem.errors.is_empty() => {
            let errors: Vec<_> = problem.errors.into_iter().map(ValidationError::of).collect();
            (StatusCode::UNPROCESSABLE_ENTITY, json!({ "detail": errors }))
        }
        code => (code.status(), json!({ "detail": problem.detail })),
    };
    let mut answer = (status, axum::Json(body)).into_response();
    for (name, value) in response.headers() {
        if !answer.headers().contains_key(name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    *answer.extensions_mut() = std::mem::take(response.extensions_mut());
    answer
}
