//! Keys.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use keyledger_engine::domain::key::{CreateKey, Key, KeyCommand, KeyStatus, Owner, OwnerKind};
use keyledger_engine::ledger::Command;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApiId, KeyId, OrganizationId};
use keyledger_engine::value::text::{Name, Scope, UserId};
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::beside_the_log::usage::{Address, Report};
use keyledger_projections::key_list::{KeyPage, KeyQuery};
use keyledger_projections::verification::Question;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::Status;
use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::answer::reply::Reply;
use crate::auth::caller::Caller;
use crate::request::body::{Checks, Field, Json, Reading, parsed, set, text};
use crate::request::execution::execute;
use crate::request::precondition::reach_in;
use crate::request::query::{PathId, QueryParameters};
use crate::routes::keys::create::owner_for;
use crate::routes::keys::issuing::{draw_token, issue, rotate as rotate_key};
use crate::routes::keys::key::load_any;
use crate::routes::keys::list::narrow;
use crate::routes::keys::verify::seen_by;
use crate::service::Service;

/// The default number of keys on a page.
const PAGE_SIZE_DEFAULT: usize = 50;
const PAGE_SIZE_MAX: usize = 200;

/// An answer: its first members, and the endpoint's content.
#[derive(Serialize)]
struct Answer<T> {
    #[serde(flatten)]
    status: Status,
    #[serde(flatten)]
    content: T,
}

#[derive(Serialize)]
struct OneKey<T> {
    api_key: T,
}

/// A key in a list.
#[derive(Serialize)]
struct ListedKey {
    id: String,
    name: Option<String>,
    r#type: &'static str,
    status: &'static str,
    key_prefix: String,
    key_suffix: String,
    created_on: Timestamp,
    last_verified_on: Option<Timestamp>,
    last_verified_ip: Option<String>,
    created_by: String,
    api_ids: Vec<String>,
    scopes: Vec<String>,
}

/// A single key.
#[derive(Serialize)]
struct ShownKey {
    #[serde(flatten)]
    key: ListedKey,
    verification_count: u64,
    organization_id: String,
    user_id: Option<String>,
}

impl ListedKey {
    fn of(key: &Key, usage: &Report, now: Timestamp) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name.as_ref().map(|name| name.as_str().into()),
            r#type: type_of(key.owner.kind),
            status: status_of(key.status(now)),
            key_prefix: key.hint.start.chars().take(6).collect(),
            key_suffix: key.hint.last_four.to_string(),
            created_on: key.created_at,
            last_verified_on: usage.last_at,
            last_verified_ip: usage.last_from.ip().map(|ip| ip.to_string()),
            created_by: key.created_by.to_string(),
            api_ids: key.api_id.iter().map(ToString::to_string).collect(),
            scopes: key.scopes.iter().map(|scope| scope.as_str().into()).collect(),
        }
    }
}

impl ShownKey {
    fn of(key: &Key, usage: &Report, now: Timestamp) -> Self {
        Self {
            key: ListedKey::of(key, usage, now),
            verification_count: usage.total.total(),
            organization_id: key.organization_id.to_string(),
            user_id: key.user_id.as_ref().map(|user_id| user_id.as_str().into()),
        }
    }
}

/// Kinde has keys of organizations and of users. A partner's keys count as its organization's.
const fn type_of(owner: OwnerKind) -> &'static str {
    match owner {
        OwnerKind::User => "user",
        OwnerKind::Organization | OwnerKind::Partner | OwnerKind::Client => "organization",
    }
}

const fn status_of(status: KeyStatus) -> &'static str {
    match status {
        KeyStatus::Active => "active",
        KeyStatus::Revoked | KeyStatus::Deleted => "revoked",
        KeyStatus::Expired => "inactive",
    }
}

pub(super) async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    mut parameters: QueryParameters,
) -> Result<Response, Problem> {
    let mut query = KeyQuery::new(service.now());
    query.limit = parameters.read("page_size", page_size).unwrap_or(PAGE_SIZE_DEFAULT);
    query.owner = match parameters.text("key_type").as_deref() {
        None => Vec::new(),
        Some("organization") => vec![OwnerKind::Organization, OwnerKind::Partner, OwnerKind::Client],
        Some("user") => vec![OwnerKind::User],
        Some(_) => {
            parameters.fail("key_type", "must be organization or user");
            Vec::new()
        }
    };
    query.status = match parameters.text("status").as_deref() {
        None => Vec::new(),
        Some("active") => vec![KeyStatus::Active],
        Some("inactive") => vec![KeyStatus::Expired],
        Some("revoked") => vec![KeyStatus::Revoked],
        Some(_) => {
            parameters.fail("status", "must be active, inactive or revoked");
            Vec::new()
        }
    };
    query.user_id = parameters.read("user_id", UserId::new);
    query.organization_id = parameters.parsed::<OrganizationId>("org_code");
    let after = parameters.text("starting_after");
    parameters.finish()?;
    // These clients send no positions, and must see everything that was answered to them.
    reach_in(service.ledger.head(), &service.key_list_handle).await?;
    narrow(&caller, &mut query)?;
    if let Some(after) = after {
        let unknown = || Problem::field("?starting_after", "is not a key of this list");
        let key = load_any(&service, &caller, &after).await.map_err(|_| unknown())?;
        query = query.after(&key);
    }
    let now = query.now;
    let (list, usage) = (service.key_list.clone(), Arc::clone(&service.usage));
    let read = move || {
        let KeyPage { keys, next_cursor, .. } = list.query(&query)?;
        let listed = keys.iter().map(|key| {
            let usage = usage.summary(key.id, now).map_err(|error| Problem::internal(&error))?;
            Ok(ListedKey::of(key, &usage, now))
        });
        Ok::<_, Problem>((listed.collect::<Result<Vec<_>, Problem>>()?, next_cursor.is_some()))
    };
    let (api_keys, has_more) = service.blocking(read).await??;
    #[derive(Serialize)]
    struct Listed {
        has_more: bool,
        api_keys: Vec<ListedKey>,
    }
    Reply::at(service.key_list_handle.position())
        .json(&Answer { status: Status::OK, content: Listed { has_more, api_keys } })
}

fn page_size(text: &str) -> Result<usize, &'static str> {
    let size = text.parse().ok().filter(|size| (1..=PAGE_SIZE_MAX).contains(size));
    size.ok_or("must be a whole number from 1 to 200")
}

#[derive(Deserialize)]
pub(super) struct CreateBody {
    #[serde(default)]
    name: Field,
    /// The examples in Kinde's documentation omit it.
    #[serde(default)]
    r#type: Field,
    #[serde(default)]
    api_id: Field,
    #[serde(default)]
    scope_ids: Field,
    #[serde(default)]
    user_id: Field,
    #[serde(default)]
    org_code: Field,
}

/// The token of a new or rotated key.
#[derive(Serialize)]
struct Secret<'a> {
    id: String,
    /// Absent when the request repeats an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

pub(super) async fn create(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Json { body, bytes }: Json<CreateBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let name = checks.required("name", &body.name, text(Name::new));
    let kind = checks.optional("type", &body.r#type, key_type);
    let api_id = checks.required("api_id", &body.api_id, parsed::<ApiId>);
    let scopes = checks.optional("scope_ids", &body.scope_ids, set(Scope::COUNT_MAX, Scope::new));
    let user_id = checks.optional("user_id", &body.user_id, text(UserId::new));
    let organization_id = checks.optional("org_code", &body.org_code, parsed::<OrganizationId>);
    let organization_id = organization_id.or_else(|| caller.bound_to().cloned());
    if organization_id.is_none() && body.org_code.is_missing() {
        checks.fail("/org_code", "is required unless the application is bound to an organization");
    }
    match kind.unwrap_or(Owner::in_organization(user_id.is_some()).kind) {
        OwnerKind::User if body.user_id.is_missing() => {
            checks.fail("/user_id", "is required for a key of type user")
        }
        OwnerKind::Organization if !body.user_id.is_missing() => {
            checks.fail("/user_id", "must not be given for a key of type organization");
        }
        _ => {}
    }
    checks.finish()?;
    let (Some(organization_id), Some(_)) = (organization_id, api_id) else {
        return Err(Problem::of(Code::InvalidRequest));
    };
    let (owner, user_id) = owner_for(&caller, Owner::in_organization(user_id.is_some()), user_id)?;
    let environment = Environment::Production;
    let token = draw_token(&service, api_id, environment)?;
    let key = CreateKey {
        organization_id,
        api_id,
        owner,
        user_id,
        name,
        description: None,
        metadata: None,
        environment,
        scopes: scopes.unwrap_or_default(),
        expires_at: None,
        digest: token.digest(),
        hint: token.hint(),
    };
    let issued = issue(&service, &caller, &headers, ("POST /api/v1/api_keys", &bytes), key).await;
    let outcome = issued.map_err(|problem| match problem.code {
        Code::OrganizationNotFound | Code::OrganizationDeleted => unknown_organization(),
        Code::ApiNotFound | Code::ApiDeleted => Problem::field("/api_id", "is not an API"),
        _ => problem,
    })?;
    let key = (!outcome.replayed).then(|| token.expose());
    let api_key = Secret { id: outcome.object.id.to_string(), key };
    Reply::at(outcome.position)
        .status(StatusCode::CREATED)
        .secret()
        .replayed(outcome.replayed)
        .json(&Answer { status: Status::CREATED, content: OneKey { api_key } })
}

fn unknown_organization() -> Problem {
    Problem::field("/org_code", "is not an organization")
}

fn key_type(value: &Value) -> Reading<OwnerKind> {
    match value.as_str() {
        Some("organization") => Ok(OwnerKind::Organization),
        Some("user") => Ok(OwnerKind::User),
        Some("environment") => Err(vec![(
            String::new(),
            "environment is not supported: a key belongs to an organization or to a user of an organization"
                .into(),
        )]),
        _ => Err(vec![(String::new(), "must be user or organization".into())]),
    }
}

/// Returns the key unless it was deleted.
async fn living(service: &Arc<Service>, caller: &Caller, id: &str) -> Result<Key, Problem> {
    let key = load_any(service, caller, id).await?;
    if key.deleted_at.is_some() { Err(Problem::of(Code::KeyNotFound)) } else { Ok(key) }
}

pub(super) async fn read(
    State(service): State<Arc<Service>>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let position = service.ledger.head();
    let key = living(&service, &caller, &id).await?;
    let now = service.now();
    let usage = summary(&service, key.id, now).await?;
    let api_key = ShownKey::of(&key, &usage, now);
    Reply::at(position).json(&Answer { status: Status::OK, content: OneKey { api_key } })
}

async fn summary(service: &Arc<Service>, id: KeyId, now: Timestamp) -> Result<Report, Problem> {
    let usage = Arc::clone(&service.usage);
    let summary = service.blocking(move || usage.summary(id, now)).await?;
    summary.map_err(|error| Problem::internal(&error))
}

pub(super) async fn rotate(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let key = living(&service, &caller, &id).await?;
    let name = format!("PUT /api/v1/api_keys/{id}");
    let (outcome, token) = rotate_key(&service, &caller, &headers, (&name, b""), &key, 0).await?;
    let shown = (!outcome.replayed).then(|| token.expose());
    let api_key = Secret { id: outcome.object.id.to_string(), key: shown };
    Reply::at(outcome.position)
        .status(StatusCode::CREATED)
        .secret()
        .replayed(outcome.replayed)
        .json(&Answer { status: Status::ROTATED, content: OneKey { api_key } })
}

pub(super) async fn delete(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let key = living(&service, &caller, &id).await?;
    let command = Command::Key(key.id, KeyCommand::Delete);
    let committed = execute(&service, &caller, &headers, None, command).await?;
    Reply::at(committed.position).json(&Status::OK)
}

#[derive(Deserialize)]
pub(super) struct VerifyBody {
    #[serde(default)]
    api_key: Field,
}

/// The verdict on a token. A token without a key has no further members.
#[derive(Serialize)]
struct Verdict {
    is_valid: bool,
    #[serde(flatten)]
    key: Option<VerifiedKey>,
}

#[derive(Serialize)]
struct VerifiedKey {
    key_id: String,
    status: &'static str,
    scopes: Vec<String>,
    org_code: String,
    user_id: Option<String>,
    last_verified_on: Option<Timestamp>,
    verification_count: u64,
}

pub(super) async fn verify(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Json { body, .. }: Json<VerifyBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let read = text(|text: &str| Ok::<_, std::convert::Infallible>(text.to_owned()));
    let token = checks.required("api_key", &body.api_key, read);
    checks.finish()?;
    let (now, from) = (service.now(), Address::of(caller.actor.ip));
    let token = token.unwrap_or_default();
    let (is_valid, position, key) = service.index.verify(&token, &Question::default(), now, |verdict| {
        use keyledger_projections::verification::Code::{Revoked, Valid};
        let verdict = seen_by(verdict, &caller.principal);
        service.verified(&verdict, now, from);
        let key = verdict.key.map(|key| {
            let status = match verdict.code {
                Valid => "active",
                Revoked => "revoked",
                _ => "inactive",
            };
            let shown = VerifiedKey {
                key_id: key.key_id().to_string(),
                status,
                scopes: key.scopes().iter().map(|scope| scope.as_str().into()).collect(),
                org_code: key.organization_id().to_string(),
                user_id: key.user_id().map(|user_id| user_id.as_str().into()),
                last_verified_on: None,
                verification_count: 0,
            };
            (key.key_id(), shown)
        });
        (verdict.code == Valid, verdict.position, key)
    });
    let key = match key {
        None => None,
        Some((id, key)) => {
            let usage = summary(&service, id, now).await?;
            let verification_count = usage.total.total();
            Some(VerifiedKey { last_verified_on: usage.last_at, verification_count, ..key })
        }
    };
    let status = if is_valid { Status::VERIFIED } else { Status::INVALID };
    Reply::at(position).json(&Answer { status, content: Verdict { is_valid, key } })
}
