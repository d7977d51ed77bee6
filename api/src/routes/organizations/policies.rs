//! Policies: what an organization requires of its keys, and which keys violate it.

use std::sync::Arc;

use axum::extract::Path;
use axum::response::Response;
use keyledger_engine::domain::key::{Key, KeyStatus};
use keyledger_engine::domain::organization::{Organization, OrganizationCommand};
use keyledger_engine::domain::policy::{Breach, Policy};
use keyledger_engine::ledger::Command;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::text::Scope;
use keyledger_projections::key_list::{KeyPage, KeyQuery, KeySort};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::visible;
use crate::answer::code::Code;
use crate::answer::page::Page;
use crate::answer::problem::{FieldError, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::openapi::parameters::MinPosition;
use crate::request::body::{Checks, Field, JsonBody, boolean, number, set};
use crate::request::context::RequestContext;
use crate::request::execution::Outcome;
use crate::request::precondition::reach_min_position_in;
use crate::request::query::{FromQuery, PathId, QueryParameters};
use crate::routes::keys::view::KeyView;
use crate::service::Service;

/// The longest lifetime that a policy may set: a thousand years of 366 days.
const LIFETIME_SECONDS_MAX: u64 = 1_000 * 366 * 24 * 60 * 60;
/// The highest number of keys per user that a policy may set.
const KEYS_PER_USER_MAX: u64 = 1_000_000;

/// Returns the endpoints about policies.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(read, put, remove)).routes(routes!(violations))
}

/// What an organization requires of its keys in one environment. An absent field, or `null`, requires
/// nothing.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = PutPolicy)]
struct PutBody {
    /// The longest lifetime of a key, in seconds from its creation to its expiry. A key without an expiry
    /// violates it.
    #[schema(value_type = Option<u64>, example = 7_776_000)]
    #[serde(default)]
    max_lifetime_seconds: Field,
    /// Whether keys must have an expiry.
    #[schema(value_type = Option<bool>)]
    #[serde(default)]
    expiry_required: Field,
    /// The most active keys that a user may have.
    #[schema(value_type = Option<u32>, example = 5)]
    #[serde(default)]
    max_keys_per_user: Field,
    /// The only scopes that keys may carry. An empty list allows none.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    allowed_scopes: Field,
    /// Whether keys must have a name.
    #[schema(value_type = Option<bool>)]
    #[serde(default)]
    name_required: Field,
}

/// A policy.
#[derive(Serialize, ToSchema)]
#[schema(as = Policy)]
struct PolicyView {
    /// The organization.
    organization_id: String,
    /// The environment of the keys to which it applies.
    #[schema(example = "production")]
    environment: &'static str,
    /// The longest lifetime of a key, in seconds.
    max_lifetime_seconds: Option<u64>,
    /// Whether keys must have an expiry.
    expiry_required: bool,
    /// The most active keys that a user may have.
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

/// Returns the organization and the environment of a path, if the caller may see the organization.
fn place(
    request: &RequestContext,
    id: &str,
    environment: &str,
) -> Result<(OrganizationId, Environment), Problem> {
    let environment = environment.parse().map_err(|_| Problem::of(Code::PolicyNotFound))?;
    visible(&request.caller, id).map(|id| (id, environment))
}

/// Sets an organization's policy for an environment, and replaces the previous one. New keys that violate it
/// are rejected, and so are changes that would make a key violate it. Existing keys do not change, and
/// rotating, revoking and deleting them is always allowed.
#[utoipa::path(put, path = "/v1/organizations/{id}/policies/{environment}", operation_id = "setPolicy",
    tag = "Organizations", request_body = PutBody,
    params(
        ("id" = String, Path, description = "the organization's id"),
        ("environment" = String, Path, description = "`preview` or `production`"),
        ("If-Match" = Option<String>, Header, description = "the organization's `ETag`"),
    ),
    responses(
        (status = 200, body = PolicyView, description = "the policy"),
        (status = 404, body = ProblemBody,
            description = "`organization_not_found`; `policy_not_found`: no such environment"),
        (status = 410, body = ProblemBody, description = "`organization_deleted`"),
    ))]
async fn put(
    request: RequestContext,
    Path((id, environment)): Path<(String, String)>,
    body: JsonBody<PutBody>,
) -> Result<Response, Problem> {
    let (id, environment) = place(&request, &id, &environment)?;
    let policy = policy_of(&body)?;
    let command = OrganizationCommand::SetPolicy(environment, policy.clone());
    let outcome: Outcome<Organization> = request.execute(Command::Organization(id.clone(), command)).await?;
    outcome.reply().json(&PolicyView::of(&id, environment, &policy))
}

fn policy_of(body: &JsonBody<PutBody>) -> Result<Policy, Problem> {
    let mut checks = Checks::default();
    let keys = checks.optional("max_keys_per_user", &body.max_keys_per_user, number(KEYS_PER_USER_MAX));
    let lifetime =
        checks.optional("max_lifetime_seconds", &body.max_lifetime_seconds, number(LIFETIME_SECONDS_MAX));
    let expiry_required = checks.optional("expiry_required", &body.expiry_required, boolean);
    let allowed_scopes =
        checks.optional("allowed_scopes", &body.allowed_scopes, set(Scope::COUNT_MAX, Scope::new));
    let name_required = checks.optional("name_required", &body.name_required, boolean);
    checks.unknown(&body.unknown);
    checks.finish()?;
    Ok(Policy {
        max_lifetime_seconds: lifetime,
        expiry_required: expiry_required.unwrap_or(false),
        max_keys_per_user: keys.and_then(|keys| u32::try_from(keys).ok()),
        allowed_scopes,
        name_required: name_required.unwrap_or(false),
    })
}

/// Returns an organization's policy for an environment.
#[utoipa::path(get, path = "/v1/organizations/{id}/policies/{environment}", operation_id = "getPolicy",
    tag = "Organizations",
    params(
        ("id" = String, Path, description = "the organization's id"),
        ("environment" = String, Path, description = "`preview` or `production`"),
    ),
    responses(
        (status = 200, body = PolicyView, description = "the policy"),
        (status = 404, body = ProblemBody, description = "`policy_not_found`: there is no policy"),
    ))]
async fn read(
    request: RequestContext,
    Path((id, environment)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (id, environment) = place(&request, &id, &environment)?;
    let position = request.index_position();
    let found = request.service.index.organization(&id);
    let organization = found.ok_or_else(|| Problem::of(Code::OrganizationNotFound))?;
    let policy = organization.policies.get(environment).ok_or_else(|| Problem::of(Code::PolicyNotFound))?;
    request.show(position, organization.version, &PolicyView::of(&id, environment, policy))
}

/// Removes an organization's policy for an environment.
#[utoipa::path(delete, path = "/v1/organizations/{id}/policies/{environment}", operation_id = "removePolicy",
    tag = "Organizations",
    params(
        ("id" = String, Path, description = "the organization's id"),
        ("environment" = String, Path, description = "`preview` or `production`"),
        ("If-Match" = Option<String>, Header, description = "the organization's `ETag`"),
    ),
    responses(
        (status = 204, description = "the policy is removed"),
        (status = 404, body = ProblemBody, description = "`policy_not_found`: there was no policy"),
    ))]
async fn remove(
    request: RequestContext,
    Path((id, environment)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (id, environment) = place(&request, &id, &environment)?;
    let command = OrganizationCommand::RemovePolicy(environment);
    request.execute_without_answer(Command::Organization(id, command)).await
}

/// A key that violates a policy.
#[derive(Debug, Serialize, ToSchema)]
struct PolicyViolation<'a> {
    /// The key.
    #[schema(value_type = KeyView)]
    key: KeyView<'a>,
    /// The violations of its environment's policy, in the form in which a new key would be rejected.
    violations: Vec<FieldError>,
}

/// The page of the report that a request asks for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct ReportQuery {
    /// `preview` or `production`. Default: both.
    #[param(value_type = Option<String>)]
    environment: Option<Environment>,
    /// The number of keys: 1 to 200. Default 50.
    #[param(value_type = Option<u32>)]
    limit: usize,
    /// The `next_cursor` of the previous page. All other parameters must be the same.
    cursor: Option<String>,
}

impl FromQuery for ReportQuery {
    fn from_query(parameters: &mut QueryParameters) -> Self {
        Self {
            environment: parameters.parsed("environment"),
            limit: parameters.limit(),
            cursor: parameters.text("cursor"),
        }
    }
}

/// Lists the active and revoked keys of an organization that violate its policies, oldest first. If a user
/// has too many keys, the list has those that were created after the allowed number was reached.
#[utoipa::path(get, path = "/v1/organizations/{id}/policy-violations", operation_id = "listPolicyViolations",
    tag = "Organizations",
    params(("id" = String, Path, description = "the organization's id"), ReportQuery, MinPosition),
    responses(
        (status = 200, body = Page<PolicyViolation>, description = "a page of keys"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`"),
    ))]
async fn violations(
    request: RequestContext,
    id: PathId,
    parameters: QueryParameters,
) -> Result<Response, Problem> {
    let RequestContext { service, caller, headers } = request;
    let id = visible(&caller, &id)?;
    let ReportQuery { environment, limit, cursor } = parameters.read_all()?;
    reach_min_position_in(&headers, &service.key_list_handle).await?;
    let found = service.index.organization(&id);
    let organization = found.ok_or_else(|| Problem::of(Code::OrganizationNotFound))?;
    let policies = organization.policies.iter();
    let query = KeyQuery {
        environment,
        limit,
        cursor,
        organization_id: Some(id),
        status: vec![KeyStatus::Active, KeyStatus::Revoked],
        sort: KeySort::CreatedAsc,
        breaks: policies.map(|(place, policy)| (place, Arc::clone(policy))).collect(),
        ..KeyQuery::new(service.now())
    };
    if query.breaks.is_empty() {
        let page = Page::<PolicyViolation>::whole(Vec::new());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::query::assert_documented_is_read;

    #[test]
    fn the_documented_query_is_read() {
        assert_documented_is_read::<ReportQuery>();
    }
}
