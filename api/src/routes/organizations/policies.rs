//! Policies: what an organization demands of its keys, and which keys break it.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;
use keyledger_engine::domain::key::{Key, KeyStatus};
use keyledger_engine::domain::organization::{Organization, OrganizationCommand};
use keyledger_engine::domain::policy::{Breach, Policy};
use keyledger_engine::ledger::{Aggregate, Command, Committed};
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::text::Scope;
use keyledger_projections::key_list::{KeyPage, KeyQuery, KeySort};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Code, FieldError, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::answer::view::{KeyView, Page};
use crate::auth::caller::Caller;
use crate::request::body::{Checks, Field, Json, boolean, number, set};
use crate::request::execution::{Outcome, execute, outcome};
use crate::request::precondition::{check_version, reach_min_position, reach_min_position_in};
use crate::request::query::{PathId, QueryParameters};
use crate::service::Service;

/// The longest life that can be asked for: a thousand years of 366 days.
const LIFETIME_SECONDS_MAX: u64 = 1_000 * 366 * 24 * 60 * 60;
/// More keys of a user than this need no bound.
const KEYS_PER_USER_MAX: u64 = 1_000_000;

/// The calls about policies.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(read, put, remove)).routes(routes!(violations))
}

/// What an organization demands of its keys in one environment. What is left out or `null` is not demanded.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = PutPolicy)]
struct PutBody {
    /// The longest life of a key, in seconds from its creation to its end. A key without an end breaks it.
    #[schema(value_type = Option<u64>, example = 7_776_000)]
    #[serde(default)]
    max_lifetime_seconds: Field,
    /// Whether keys must have an end.
    #[schema(value_type = Option<bool>)]
    #[serde(default)]
    expiry_required: Field,
    /// How many active keys a user may have.
    #[schema(value_type = Option<u32>, example = 5)]
    #[serde(default)]
    max_keys_per_user: Field,
    /// The only scopes that keys may carry; none at all if empty.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    allowed_scopes: Field,
    /// Whether keys must have a name.
    #[schema(value_type = Option<bool>)]
    #[serde(default)]
    name_required: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// A policy as it is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = Policy)]
struct PolicyView {
    /// The organization.
    organization_id: String,
    /// The environment of the keys that it is for.
    #[schema(example = "production")]
    environment: &'static str,
    /// The longest life of a key, in seconds.
    max_lifetime_seconds: Option<u64>,
    /// Whether keys must have an end.
    expiry_required: bool,
    /// How many active keys a user may have.
    max_keys_per_user: Option<u32>,
    /// The only scopes that keys may carry.
    allowed_scopes: Option<Vec<String>>,
    /// Whether keys must have a name.
    name_required: bool,
}

impl PolicyView {
    fn of(organization_id: &OrganizationId, environment: Environment, policy: &Policy) -> Self {
        let scopes = |scopes: &Vec<Scope>| scopes.iter().map(|scope| scope.as_str().into()).collect();
        Self {
            organization_id: organization_id.to_string(),
            environment: environment.as_str(),
            max_lifetime_seconds: policy.max_lifetime_seconds,
            expiry_required: policy.expiry_required,
            max_keys_per_user: policy.max_keys_per_user,
            allowed_scopes: policy.allowed_scopes.as_ref().map(scopes),
            name_required: policy.name_required,
        }
    }
}

/// The organization and the environment of a path, if the caller may see the former.
fn place(caller: &Caller, id: &str, environment: &str) -> Result<(OrganizationId, Environment), Problem> {
    let environment = environment.parse().map_err(|_| Problem::of(Code::PolicyNotFound))?;
    visible(caller, id).map(|id| (id, environment))
}

fn visible(caller: &Caller, id: &str) -> Result<OrganizationId, Problem> {
    let not_found = || Problem::of(Code::OrganizationNotFound);
    let id: OrganizationId = id.parse().map_err(|_| not_found())?;
    if caller.sees(&id) { Ok(id) } else { Err(not_found()) }
}

fn organization_of(committed: Committed) -> Result<Outcome<Organization>, Problem> {
    outcome(committed, |aggregate| match aggregate {
        Aggregate::Organization(organization) => {
            let version = organization.version;
            Some((organization, version))
        }
        _ => None,
    })
}

/// Sets what an organization demands of its keys in an environment, in the place of what it demanded before. New keys are
/// refused that break it, and changes that would make a key break it; keys that exist stay as they are, and rotating,
/// revoking and deleting them is always allowed.
#[utoipa::path(put, path = "/v1/organizations/{id}/policies/{environment}", operation_id = "setPolicy", tag = "Organizations", request_body = PutBody,
    params(("id" = String, Path, description = "the organization's id"), ("environment" = String, Path, description = "`preview` or `production`"), ("If-Match" = Option<String>, Header, description = "the organization's `ETag`")),
    responses(
        (status = 200, body = PolicyView, description = "the policy"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`; `policy_not_found`: no such environment"),
        (status = 410, body = ProblemBody, description = "`organization_deleted`"),
        (status = 422, body = ProblemBody, description = "`invalid_request` with every field that fails"),
    ))]
async fn put(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Path((id, environment)): Path<(String, String)>,
    Json { body, .. }: Json<PutBody>,
) -> Result<Response, Problem> {
    let (id, environment) = place(&caller, &id, &environment)?;
    let mut checks = Checks::default();
    let keys = checks.optional("max_keys_per_user", &body.max_keys_per_user, number(KEYS_PER_USER_MAX));
    let policy = Policy {
        max_lifetime_seconds: checks.optional(
            "max_lifetime_seconds",
            &body.max_lifetime_seconds,
            number(LIFETIME_SECONDS_MAX),
        ),
        expiry_required: checks.optional("expiry_required", &body.expiry_required, boolean).unwrap_or(false),
        max_keys_per_user: keys.and_then(|keys| u32::try_from(keys).ok()),
        allowed_scopes: checks.optional(
            "allowed_scopes",
            &body.allowed_scopes,
            set(Scope::COUNT_MAX, Scope::new),
        ),
        name_required: checks.optional("name_required", &body.name_required, boolean).unwrap_or(false),
    };
    checks.unknown(&body.unknown);
    checks.finish()?;
    let command = OrganizationCommand::SetPolicy(environment, policy.clone());
    let command = Command::Organization(id.clone(), command);
    let outcome = organization_of(execute(&service, &caller, &headers, None, command).await?)?;
    let view = PolicyView::of(&id, environment, &policy);
    Reply::at(outcome.position).version(outcome.version).json(&view)
}

/// Shows what an organization demands of its keys in an environment.
#[utoipa::path(get, path = "/v1/organizations/{id}/policies/{environment}", operation_id = "getPolicy", tag = "Organizations",
    params(("id" = String, Path, description = "the organization's id"), ("environment" = String, Path, description = "`preview` or `production`")),
    responses(
        (status = 200, body = PolicyView, description = "the policy"),
        (status = 404, body = ProblemBody, description = "`policy_not_found`: it demands nothing"),
    ))]
async fn read(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Path((id, environment)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (id, environment) = place(&caller, &id, &environment)?;
    reach_min_position(&headers, &service.index.watch()).await?;
    let position = service.index.position();
    let organization =
        service.index.organization(&id).ok_or_else(|| Problem::of(Code::OrganizationNotFound))?;
    let policy = organization.policies.get(environment).ok_or_else(|| Problem::of(Code::PolicyNotFound))?;
    let view = PolicyView::of(&id, environment, policy);
    check_version(&headers, organization.version)?;
    Reply::at(position).version(organization.version).json(&view)
}

/// Lets an organization demand nothing of its keys in an environment any more.
#[utoipa::path(delete, path = "/v1/organizations/{id}/policies/{environment}", operation_id = "removePolicy", tag = "Organizations",
    params(("id" = String, Path, description = "the organization's id"), ("environment" = String, Path, description = "`preview` or `production`"), ("If-Match" = Option<String>, Header, description = "the organization's `ETag`")),
    responses(
        (status = 204, description = "there is no policy any more"),
        (status = 404, body = ProblemBody, description = "`policy_not_found`: there was none"),
    ))]
async fn remove(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Path((id, environment)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (id, environment) = place(&caller, &id, &environment)?;
    let command = Command::Organization(id, OrganizationCommand::RemovePolicy(environment));
    let committed = execute(&service, &caller, &headers, None, command).await?;
    Ok(Reply::at(committed.position).empty())
}

/// A key that breaks a policy.
#[derive(Debug, Serialize, ToSchema)]
struct PolicyViolation<'a> {
    /// The key.
    #[schema(value_type = KeyView)]
    key: KeyView<'a>,
    /// What of it breaks the policy of its environment, each as a new key's refusal would say it.
    violations: Vec<FieldError>,
}

/// Which page of the report. It describes the parameters; [`QueryParameters`] reads them.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
struct ReportQuery {
    /// `preview` or `production`; both if left out.
    environment: Option<String>,
    /// How many keys: 1 to 200; 50 if left out.
    limit: Option<u32>,
    /// The `next_cursor` of the page before; all other parameters must be the same.
    cursor: Option<String>,
}

/// Lists the active and revoked keys of an organization that break its policies, oldest first. Of a user with too many
/// keys, those are listed that came after as many as are allowed.
#[utoipa::path(get, path = "/v1/organizations/{id}/policy-violations", operation_id = "listPolicyViolations", tag = "Organizations",
    params(("id" = String, Path, description = "the organization's id"), ReportQuery, ("Keyledger-Min-Position" = Option<u64>, Header, description = "the position to rest on, at least")),
    responses(
        (status = 200, body = Page<PolicyViolation>, description = "a page of keys"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`"),
    ))]
async fn violations(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
    mut parameters: QueryParameters,
) -> Result<Response, Problem> {
    let id = visible(&caller, &id)?;
    let mut query = KeyQuery::new(service.now());
    query.environment = parameters.parsed("environment");
    query.limit = parameters.limit();
    query.cursor = parameters.text("cursor");
    parameters.finish()?;
    reach_min_position_in(&headers, &service.key_list_handle).await?;
    let organization =
        service.index.organization(&id).ok_or_else(|| Problem::of(Code::OrganizationNotFound))?;
    query.organization_id = Some(id);
    query.status = vec![KeyStatus::Active, KeyStatus::Revoked];
    query.sort = KeySort::CreatedAsc;
    query.breaks = organization.policies.iter().map(|(place, policy)| (place, Arc::clone(policy))).collect();
    if query.breaks.is_empty() {
        let page =
            Page::<PolicyViolation> { data: Vec::new(), next_cursor: None, total: 0, total_capped: false };
        return Reply::at(service.key_list_handle.position()).json(&page);
    }
    let now = query.now;
    let list = service.key_list.clone();
    let page = service.blocking(move || list.query(&query)).await??;
    let data = page.keys.iter().map(|key| PolicyViolation {
        key: KeyView::of(key, now),
        violations: breaches(&organization, &page, key).iter().map(FieldError::of_breach).collect(),
    });
    let shown = Page {
        data: data.collect(),
        next_cursor: page.next_cursor.clone(),
        total: page.total,
        total_capped: page.total_capped,
    };
    Reply::at(page.position).json(&shown)
}

fn breaches(organization: &Organization, page: &KeyPage, key: &Key) -> Vec<Breach> {
    let Some(policy) = organization.policies.get(key.environment) else { return Vec::new() };
    let mut breaches = policy.breaches_of(key);
    if page.over_user_limit.contains(&key.id) {
        breaches.extend(policy.breach_of_keys(u32::MAX));
    }
    breaches
}
