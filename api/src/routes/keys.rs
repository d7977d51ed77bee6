//! Keys: issue, read, change, revoke, reactivate, rotate, delete.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use keyledger_engine::api::Api;
use keyledger_engine::id::{ApiId, KeyId, OrganizationId};
use keyledger_engine::key::{
    EditKey, Environment, ExpiryPreset, Key, KeyCommand, Owner, OwnerKind, RevocationReason,
};
use keyledger_engine::ledger::{Aggregate, Command};
use keyledger_engine::log;
use keyledger_engine::position::Position;
use keyledger_engine::record::StreamId;
use keyledger_engine::rejection::Rejection;
use keyledger_engine::text::{Description, Metadata, Name, Note, Scope, UserId};
use keyledger_engine::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::body::{Checks, Field, Json, number, parsed, set, text};
use crate::caller::Caller;
use crate::command::{Outcome, execute};
use crate::issuing::{self, NewKey, issue, key_outcome};
use crate::precondition::reach_min_position;
use crate::problem::{Code, Problem, ProblemBody};
use crate::query::PathId;
use crate::reply::Reply;
use crate::service::Service;
use crate::view::{KeyView, KeyWithToken};

/// The longest overlap of a rotation: 90 days.
const OVERLAP_SECONDS_MAX: u64 = 90 * 24 * 60 * 60;

/// The calls about one key.
pub fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(read, edit, delete))
        .routes(routes!(revoke))
        .routes(routes!(reactivate))
        .routes(routes!(rotate))
}

/// A new key.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = CreateKey)]
struct CreateBody {
    /// The organization it is to belong to.
    #[schema(value_type = String, required = true)]
    #[serde(default)]
    organization_id: Field,
    /// The user it is to belong to; opaque here.
    #[schema(value_type = Option<String>, max_length = 255)]
    #[serde(default)]
    user_id: Field,
    /// Whom it is for. Without it, a `client_organization_id` makes it a `client`'s key, a `user_id` a `user`'s, and
    /// neither the `organization`'s. `partner` is for every client in the portfolio of an organization of kind partner.
    #[schema(value_type = Option<String>, example = "organization")]
    #[serde(default)]
    owner: Field,
    /// The client organization that it is for: one in the portfolio of `organization_id`. The key verifies with this id as
    /// `organization_id` and no other, and stops when the client leaves the portfolio.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    client_organization_id: Field,
    /// What people call it.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    name: Field,
    /// What it is for.
    #[schema(value_type = Option<String>, max_length = 4000)]
    #[serde(default)]
    description: Field,
    /// Where it is valid: `preview` or `production`.
    #[schema(value_type = String, required = true, example = "production")]
    #[serde(default)]
    environment: Field,
    /// The API it is for.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    api_id: Field,
    /// What it may do; scopes of its API if it has one.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    scopes: Field,
    /// `two_weeks`, `one_month`, `three_months`, `six_months`, `one_year` or `never`; not together with `expires_at`.
    #[schema(value_type = Option<String>, example = "three_months")]
    #[serde(default)]
    expires_in: Field,
    /// When it ends: RFC 3339, in the future; not together with `expires_in`.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(default)]
    expires_at: Field,
    /// A JSON object of at most 16 KiB.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    metadata: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

fn metadata(value: &Value) -> crate::body::Reading<Metadata> {
    Metadata::new(value).map_err(|error| vec![(String::new(), error.to_string())])
}

fn scopes(value: &Value) -> crate::body::Reading<Vec<Scope>> {
    set(Scope::COUNT_MAX, Scope::new)(value)
}

/// Issues a key. The answer is the only one that shows its token.
#[utoipa::path(post, path = "/v1/keys", operation_id = "createKey", tag = "Keys", request_body = CreateBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "names the call for 24 hours: repeated, it takes place once")),
    responses(
        (status = 201, body = KeyWithToken, description = "the key and its token"),
        (status = 403, body = ProblemBody, description = "`forbidden`, `organization_kind_not_allowed`, `client_not_in_portfolio`"),
        (status = 422, body = ProblemBody, description = "`invalid_request` with every field that fails; `policy_violation` with all that breaks the organization's policy"),
    ))]
async fn create(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Json { body, bytes }: Json<CreateBody>,
) -> Result<Response, Problem> {
    let now = service.now();
    let mut checks = Checks::default();
    let organization_id = checks.required("organization_id", &body.organization_id, parsed::<OrganizationId>);
    let user_id = checks.optional("user_id", &body.user_id, text(UserId::new));
    let owner = read_owner(&mut checks, &body, user_id.is_some());
    let name = checks.optional("name", &body.name, text(Name::new));
    let description = checks.optional("description", &body.description, text(Description::new));
    let environment = checks.required("environment", &body.environment, parsed::<Environment>);
    let api_id = checks.optional("api_id", &body.api_id, parsed::<ApiId>);
    let scopes = checks.optional("scopes", &body.scopes, scopes);
    let preset = checks.optional("expires_in", &body.expires_in, parsed::<ExpiryPreset>);
    let expires_at = checks.optional("expires_at", &body.expires_at, parsed::<Timestamp>);
    let metadata = checks.optional("metadata", &body.metadata, metadata);
    if preset.is_some() && expires_at.is_some() {
        checks.fail("/expires_at", "must not be given together with expires_in");
    }
    checks.unknown(&body.unknown);
    check_known(&service, &caller, organization_id.as_ref(), api_id, scopes.as_deref(), &mut checks);
    checks.finish()?;
    let (Some(organization_id), Some(environment)) = (organization_id, environment) else {
        return Err(Problem::of(Code::InvalidRequest));
    };
    if !caller.sees(&organization_id) {
        return Err(Problem::of(Code::OrganizationNotFound));
    }
    let (owner, user_id) = owner_for(&caller, owner, user_id)?;
    let new = NewKey {
        organization_id,
        api_id,
        owner,
        user_id,
        name,
        description,
        metadata,
        environment,
        scopes: scopes.unwrap_or_default(),
        expires_at: expires_at.or_else(|| preset.and_then(|preset| preset.expires_at(now))),
    };
    let issued = issue(&service, &caller, &headers, ("POST /v1/keys", &bytes), new).await;
    let (outcome, token) = issued.map_err(|problem| in_words_of(problem, preset.is_some()))?;
    let Outcome { object, version, position, time, replayed } = outcome;
    let shown = KeyWithToken { key: KeyView::of(&object, time), token: (!replayed).then(|| token.expose()) };
    Reply::at(position)
        .status(StatusCode::CREATED)
        .version(version)
        .location(&format!("/v1/keys/{}", object.id))
        .secret()
        .replayed(replayed)
        .json(&shown)
}

/// Whom a new key is for, as its body says it. What fails is noted.
fn read_owner(checks: &mut Checks, body: &CreateBody, has_user: bool) -> Owner {
    let kind = checks.optional("owner", &body.owner, parsed::<OwnerKind>);
    let client_id =
        checks.optional("client_organization_id", &body.client_organization_id, parsed::<OrganizationId>);
    let implied = match &client_id {
        Some(_) => OwnerKind::Client,
        None => Owner::in_organization(has_user).kind,
    };
    let kind = kind.unwrap_or(implied);
    if has_user && kind != OwnerKind::User {
        checks.fail("/user_id", format!("must not be given for a key of owner {kind}"));
    }
    if body.user_id.is_missing() && kind == OwnerKind::User {
        checks.fail("/user_id", "is required for a key of owner user");
    }
    if client_id.is_some() && kind != OwnerKind::Client {
        checks.fail("/client_organization_id", format!("must not be given for a key of owner {kind}"));
    }
    match (kind, client_id) {
        (OwnerKind::Organization | OwnerKind::User, _) => Owner { kind, client_id: None },
        (OwnerKind::Partner, _) => Owner::partner(),
        (OwnerKind::Client, Some(client_id)) => Owner::client(client_id),
        (OwnerKind::Client, None) => {
            if body.client_organization_id.is_missing() {
                checks.fail("/client_organization_id", "is required for a key of owner client");
            }
            Owner { kind, client_id: None }
        }
    }
}

/// Whose a new key is: who may see only their own keys makes only such.
///
/// # Errors
/// `forbidden` when it is to be somebody else's.
pub fn owner_for(
    caller: &Caller,
    owner: Owner,
    user_id: Option<UserId>,
) -> Result<(Owner, Option<UserId>), Problem> {
    let Some(own) = caller.own_keys_of() else { return Ok((owner, user_id)) };
    let is_for_others = user_id.as_ref().is_some_and(|asked| asked != own)
        || matches!(owner.kind, OwnerKind::Partner | OwnerKind::Client);
    if is_for_others {
        return Err(Problem::new(
            Code::Forbidden,
            "a member issues keys of their own; leave owner and user_id out",
        ));
    }
    Ok((Owner::in_organization(true), Some(own.clone())))
}

/// Names unknown organizations, APIs and scopes together with everything else that fails. The rules look again.
fn check_known(
    service: &Service,
    caller: &Caller,
    organization_id: Option<&OrganizationId>,
    api_id: Option<ApiId>,
    scopes: Option<&[Scope]>,
    checks: &mut Checks,
) {
    if organization_id
        .is_some_and(|id| caller.bound_to().is_none() && service.index.organization(id).is_none())
    {
        checks.fail("/organization_id", Rejection::OrganizationUnknown.to_string());
    }
    let Some(api_id) = api_id else { return };
    match service.index.api(api_id) {
        None => checks.fail("/api_id", Rejection::ApiUnknown.to_string()),
        Some(api) if api.deleted_at.is_some() => checks.fail("/api_id", Rejection::ApiDeleted.to_string()),
        Some(api) => check_scopes(&api, scopes, checks),
    }
}

/// Names scopes that an API does not have.
fn check_scopes(api: &Api, scopes: Option<&[Scope]>, checks: &mut Checks) {
    for (index, scope) in scopes.unwrap_or_default().iter().enumerate() {
        if !api.scopes.contains(scope) {
            checks.fail(format!("/scopes/{index}"), "the API does not have this scope");
        }
    }
}

/// The problem as the body can be blamed for it: what it names and is not there is a field that fails, not a missing page;
/// and an end that breaks a policy was given by a preset or as a time.
fn in_words_of(mut problem: Problem, by_preset: bool) -> Problem {
    for error in problem.errors.iter_mut().filter(|error| by_preset && error.pointer == "/expires_at") {
        error.pointer = "/expires_in".into();
    }
    match problem.code {
        Code::OrganizationNotFound => Problem::field("/organization_id", problem.detail),
        Code::ApiNotFound | Code::ApiDeleted => Problem::field("/api_id", problem.detail),
        _ => problem,
    }
}

/// Reads a key from the log, whatever its state, for a caller who may see it.
///
/// # Errors
/// `key_not_found`, also for another organization's.
pub async fn load_any(service: &Arc<Service>, caller: &Caller, id: &str) -> Result<Key, Problem> {
    let not_found = || Problem::of(Code::KeyNotFound);
    let id: KeyId = id.parse().map_err(|_| not_found())?;
    let stream = service.read_log(move |log| log.read_stream(&StreamId::Key(id))).await?;
    match Aggregate::fold(&stream.records) {
        Ok(Some(Aggregate::Key(key))) if caller.sees_key(&key) => Ok(key),
        Ok(_) => Err(not_found()),
        Err(position) => Err(Problem::internal(&format!("the event at {position} does not fit its key"))),
    }
}

/// When a key is to be looked at.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct AsOf {
    /// An RFC 3339 time or a position: the key as it was then. Works for deleted keys too.
    at: Option<String>,
}

/// Shows a key, now or as it was.
#[utoipa::path(get, path = "/v1/keys/{id}", operation_id = "getKey", tag = "Keys", params(("id" = String, Path, description = "its id"), AsOf),
    responses(
        (status = 200, body = KeyView, description = "the key"),
        (status = 404, body = ProblemBody, description = "`key_not_found`: also when it did not exist then"),
        (status = 410, body = ProblemBody, description = "`key_deleted`"),
    ))]
async fn read(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
    query: Result<Query<AsOf>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let Query(as_of) = query.map_err(|error| Problem::field("?", error.body_text()))?;
    reach_min_position(&headers, &service.ledger.watch_head()).await?;
    let position = service.ledger.head();
    let now = service.now();
    let (key, moment) = match as_of.at {
        Some(at) => {
            let (key, moment) = load_at(&service, &caller, &id, &at, now).await?;
            return Reply::at(position).version(key.version).json(&KeyView::of(&key, moment));
        }
        None => {
            let key = load_any(&service, &caller, &id).await?;
            if key.deleted_at.is_some() {
                return Err(Problem::of(Code::KeyDeleted));
            }
            (key, now)
        }
    };
    let shown = KeyView::of(&key, moment).last_verified(service.last_verified(key.id).await?);
    Reply::at(position).version(key.version).json(&shown)
}

/// The key as of `at`, and the moment at which its expiry is to be judged.
async fn load_at(
    service: &Arc<Service>,
    caller: &Caller,
    id: &str,
    at: &str,
    now: Timestamp,
) -> Result<(Key, Timestamp), Problem> {
    let not_found = || Problem::of(Code::KeyNotFound);
    let key_id: KeyId = id.parse().map_err(|_| not_found())?;
    let time = at.parse::<Timestamp>();
    let position = at.parse::<Position>();
    if time.is_err() && position.is_err() {
        return Err(Problem::field("?at", "must be an RFC 3339 time or a position"));
    }
    if position.as_ref().is_ok_and(|position| *position > service.ledger.head()) {
        return Err(Problem::field("?at", "is past the end of the log"));
    }
    let (mut records, moment) = service
        .read_log(move |log| {
            let records = log.read_stream(&StreamId::Key(key_id))?.records;
            let moment = match position {
                Ok(position) => time_of(log, position)?,
                Err(_) => time.unwrap_or(now),
            };
            Ok((records, moment))
        })
        .await?;
    match at.parse::<Position>() {
        Ok(position) => records.retain(|record| record.position <= position),
        Err(_) => records.retain(|record| record.time <= moment),
    }
    match Aggregate::fold(&records) {
        Ok(Some(Aggregate::Key(key))) if caller.sees_key(&key) => Ok((key, moment)),
        Ok(_) => Err(not_found()),
        Err(position) => Err(Problem::internal(&format!("the event at {position} does not fit its key"))),
    }
}

fn time_of(log: &dyn log::LogReader, position: Position) -> Result<Timestamp, log::Error> {
    let Some(index) = position.entry_index() else { return Ok(Timestamp::default()) };
    let records = log.read(Position::new(index), 1)?;
    Ok(records.first().map_or_else(Timestamp::default, |record| record.time))
}

/// Changes to a key; what is absent stays, `null` clears.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = EditKey)]
struct EditBody {
    /// What people call it.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    name: Field,
    /// What it is for.
    #[schema(value_type = Option<String>, max_length = 4000)]
    #[serde(default)]
    description: Field,
    /// What it may do.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    scopes: Field,
    /// A JSON object of at most 16 KiB.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    metadata: Field,
    /// When it ends: RFC 3339, in the future; `null` for never.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(default)]
    expires_at: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// Renames a key, and changes what else it says of itself.
#[utoipa::path(patch, path = "/v1/keys/{id}", operation_id = "editKey", tag = "Keys", request_body = EditBody,
    params(("id" = String, Path, description = "its id"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 200, body = KeyView, description = "the key after it"),
        (status = 410, body = ProblemBody, description = "`key_deleted`"),
        (status = 412, body = ProblemBody, description = "`version_conflict`"),
        (status = 422, body = ProblemBody, description = "`invalid_request` with every field that fails; `policy_violation` with all that breaks the organization's policy"),
    ))]
async fn edit(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
    Json { body, .. }: Json<EditBody>,
) -> Result<Response, Problem> {
    // Read so that scopes that its API does not have are named together with everything else that fails.
    let key = load_any(&service, &caller, &id).await?;
    let mut checks = Checks::default();
    let edit = EditKey {
        name: checks.change("name", &body.name, text(Name::new)),
        description: checks.change("description", &body.description, text(Description::new)),
        metadata: checks.change("metadata", &body.metadata, metadata),
        scopes: checks.change("scopes", &body.scopes, scopes).map(Option::unwrap_or_default),
        expires_at: checks.change("expires_at", &body.expires_at, parsed::<Timestamp>),
    };
    checks.unknown(&body.unknown);
    if let Some(api) = key.api_id.and_then(|id| service.index.api(id)) {
        check_scopes(&api, edit.scopes.as_deref(), &mut checks);
    }
    checks.finish()?;
    change(&service, &caller, &headers, key.id, None, KeyCommand::Edit(Box::new(edit))).await
}

/// Carries out a command on a key, and shows the key.
async fn change(
    service: &Arc<Service>,
    caller: &Caller,
    headers: &HeaderMap,
    key: KeyId,
    name: Option<(&str, &[u8])>,
    command: KeyCommand,
) -> Result<Response, Problem> {
    let committed = execute(service, caller, headers, name, Command::Key(key, command)).await?;
    let Outcome { object, version, position, time, replayed } = key_outcome(committed)?;
    let shown = KeyView::of(&object, time).last_verified(last_verified(service, object.id).await);
    Reply::at(position).version(version).replayed(replayed).json(&shown)
}

/// When a key was last verified, for the answer to a change. The change has taken place: that this cannot be told just now
/// must not look as if it had not.
async fn last_verified(service: &Arc<Service>, id: KeyId) -> Option<Timestamp> {
    service.last_verified(id).await.unwrap_or_default()
}

/// The id of a key that the caller may see. Only callers that are bound to an organization make it read the key.
async fn find(service: &Arc<Service>, caller: &Caller, id: &str) -> Result<KeyId, Problem> {
    if caller.bound_to().is_some() {
        return load_any(service, caller, id).await.map(|key| key.id);
    }
    id.parse().map_err(|_| Problem::of(Code::KeyNotFound))
}

/// Why a key is revoked.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = RevokeKey)]
struct RevokeBody {
    /// `unspecified`, `key_compromise`, `superseded`, `affiliation_changed` or `privilege_withdrawn`.
    #[schema(value_type = Option<String>, example = "superseded")]
    #[serde(default)]
    reason: Field,
    /// Why, in words.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    note: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// Stops a key. No verification that starts after the answer says VALID. It can be reactivated.
#[utoipa::path(post, path = "/v1/keys/{id}/revoke", operation_id = "revokeKey", tag = "Keys", request_body = Option<RevokeBody>,
    params(("id" = String, Path, description = "its id"), ("Idempotency-Key" = Option<String>, Header, description = "names the call for 24 hours: repeated, it takes place once"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 200, body = KeyView, description = "the key after it"),
        (status = 409, body = ProblemBody, description = "`key_already_revoked`, `key_expired`"),
        (status = 410, body = ProblemBody, description = "`key_deleted`"),
    ))]
async fn revoke(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
    Json { body, bytes }: Json<RevokeBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let reason = checks.optional("reason", &body.reason, parsed::<RevocationReason>).unwrap_or_default();
    let note = checks.optional("note", &body.note, text(Note::new));
    checks.unknown(&body.unknown);
    checks.finish()?;
    let name = format!("POST /v1/keys/{id}/revoke");
    let key = find(&service, &caller, &id).await?;
    change(&service, &caller, &headers, key, Some((&name, &bytes)), KeyCommand::Revoke { reason, note }).await
}

/// A body without fields.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = NoFields)]
pub struct NoFields {
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

impl NoFields {
    /// Refuses a body with fields.
    ///
    /// # Errors
    /// `invalid_request`.
    pub fn check(&self) -> Result<(), Problem> {
        let mut checks = Checks::default();
        checks.unknown(&self.unknown);
        checks.finish()
    }
}

/// Lets a revoked key work again.
#[utoipa::path(post, path = "/v1/keys/{id}/reactivate", operation_id = "reactivateKey", tag = "Keys", request_body = Option<NoFields>,
    params(("id" = String, Path, description = "its id"), ("Idempotency-Key" = Option<String>, Header, description = "names the call for 24 hours: repeated, it takes place once"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 200, body = KeyView, description = "the key after it"),
        (status = 409, body = ProblemBody, description = "`key_not_revoked`, `key_expired`"),
        (status = 410, body = ProblemBody, description = "`key_deleted`"),
        (status = 422, body = ProblemBody, description = "`policy_violation`: its user has as many active keys as the policy allows"),
    ))]
async fn reactivate(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
    Json { body, bytes }: Json<NoFields>,
) -> Result<Response, Problem> {
    body.check()?;
    let name = format!("POST /v1/keys/{id}/reactivate");
    let key = find(&service, &caller, &id).await?;
    change(&service, &caller, &headers, key, Some((&name, &bytes)), KeyCommand::Reactivate).await
}

/// How a key gets a new token.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = RotateKey)]
struct RotateBody {
    /// For how many seconds the old token is accepted too: 0 to 7,776,000 (90 days), never past the key's own expiry.
    #[schema(value_type = Option<u64>, example = 3600)]
    #[serde(default)]
    overlap_seconds: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// Gives a key a new token. The key's id stays; the answer is the only one that shows the new token.
#[utoipa::path(post, path = "/v1/keys/{id}/rotate", operation_id = "rotateKey", tag = "Keys", request_body = Option<RotateBody>,
    params(("id" = String, Path, description = "its id"), ("Idempotency-Key" = Option<String>, Header, description = "names the call for 24 hours: repeated, it takes place once"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 200, body = KeyWithToken, description = "the key and its new token"),
        (status = 409, body = ProblemBody, description = "`key_revoked`, `key_expired`"),
        (status = 410, body = ProblemBody, description = "`key_deleted`"),
    ))]
async fn rotate(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
    Json { body, bytes }: Json<RotateBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let overlap = checks.optional("overlap_seconds", &body.overlap_seconds, number(OVERLAP_SECONDS_MAX));
    checks.unknown(&body.unknown);
    checks.finish()?;
    let key = load_any(&service, &caller, &id).await?;
    let name = format!("POST /v1/keys/{id}/rotate");
    let overlap_millis = i64::try_from(overlap.unwrap_or(0) * 1_000).unwrap_or(i64::MAX);
    let (outcome, token) =
        issuing::rotate(&service, &caller, &headers, (&name, &bytes), &key, overlap_millis).await?;
    let Outcome { object, version, position, time, replayed } = outcome;
    let key = KeyView::of(&object, time).last_verified(last_verified(&service, object.id).await);
    let shown = KeyWithToken { key, token: (!replayed).then(|| token.expose()) };
    Reply::at(position).version(version).secret().replayed(replayed).json(&shown)
}

/// Deletes a key, for good. Its history stays.
#[utoipa::path(delete, path = "/v1/keys/{id}", operation_id = "deleteKey", tag = "Keys",
    params(("id" = String, Path, description = "its id"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 204, description = "it is deleted"),
        (status = 410, body = ProblemBody, description = "`key_deleted`: it was before"),
    ))]
async fn delete(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let key = find(&service, &caller, &id).await?;
    let committed = execute(&service, &caller, &headers, None, Command::Key(key, KeyCommand::Delete)).await?;
    Ok(Reply::at(committed.position).empty())
}
