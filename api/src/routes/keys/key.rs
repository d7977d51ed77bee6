//! One key: reading, changing, revoking, reactivating, rotating and deleting it.

use std::sync::Arc;

use axum::response::Response;
use keyledger_engine::domain::key::{EditKey, Key, KeyCommand, RevocationReason};
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::ledger::{Aggregate, Command};
use keyledger_engine::log;
use keyledger_engine::value::id::KeyId;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::text::{Description, Name, Note};
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::create::{check_scopes, metadata, scopes};
use super::issuing;
use super::view::{KeyView, KeyWithToken};
use crate::answer::code::Code;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::auth::caller::Caller;
use crate::openapi::parameters::{IdempotencyKey, IfMatch, IfNoneMatch, ObjectId};
use crate::request::body::{Checks, Field, Json, JsonBody, NoFields, number, parsed, text};
use crate::request::context::RequestContext;
use crate::request::execution::Outcome;
use crate::request::precondition::{is_known, reach_min_position};
use crate::request::query::{FromQuery, PathId, Query, QueryParameters};
use crate::service::Service;

/// The longest overlap of a rotation: 90 days.
const OVERLAP_SECONDS_MAX: u64 = 90 * 24 * 60 * 60;

/// Returns the endpoints about one key.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(read, edit, delete))
        .routes(routes!(revoke))
        .routes(routes!(reactivate))
        .routes(routes!(rotate))
}

/// Reads a key from the log, in any state, if the caller may see it.
///
/// # Errors
/// `key_not_found`, also for a key that the caller may not see.
pub(crate) async fn load_any(service: &Arc<Service>, caller: &Caller, id: &str) -> Result<Key, Problem> {
    let not_found = || Problem::of(Code::KeyNotFound);
    let id: KeyId = id.parse().map_err(|_| not_found())?;
    let stream = service.read_log(move |log| log.read_stream(&StreamId::Key(id))).await?;
    match Aggregate::fold(&stream.records) {
        Ok(Some(Aggregate::Key(key))) if caller.sees_key(&key) => Ok(key),
        Ok(_) => Err(not_found()),
        Err(position) => Err(Problem::internal(&format!("the event at {position} does not fit its key"))),
    }
}

/// The moment for which a request asks.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct AsOf {
    /// An RFC 3339 time or a position. The answer is the key's state at that point, even if it was deleted
    /// later.
    at: Option<String>,
}

impl FromQuery for AsOf {
    fn from_query(parameters: &mut QueryParameters) -> Self {
        Self { at: parameters.text("at") }
    }
}

/// Returns a key in its current or in an earlier state.
#[utoipa::path(get, path = "/v1/keys/{id}", operation_id = "getKey", tag = "Keys",
    params(ObjectId, AsOf, IfNoneMatch, IfMatch),
    responses(
        (status = 200, body = KeyView, description = "the key"),
        (status = 404, body = ProblemBody,
            description = "`key_not_found`, also if it did not exist at that point"),
        (status = 410, body = ProblemBody, description = "`key_deleted`"),
    ))]
async fn read(
    request: RequestContext,
    id: PathId,
    Query(AsOf { at }): Query<AsOf>,
) -> Result<Response, Problem> {
    let service = &request.service;
    reach_min_position(&request.headers, &service.ledger.watch_head()).await?;
    let position = service.ledger.head();
    let now = service.now();
    if let Some(at) = at {
        let (key, moment) = load_at(&request, &id, &at, now).await?;
        return request.show(position, key.version, &KeyView::of(&key, moment));
    }
    let key = load_existing(&request, &id).await?;
    // Checked first, because the last verification takes time to look up.
    if is_known(&request.headers, key.version)? {
        return Ok(Reply::at(position).version(key.version).not_modified());
    }
    let shown = KeyView::of(&key, now).last_verified(service.last_verified(key.id).await?);
    Reply::at(position).version(key.version).json(&shown)
}

/// Returns a key that the caller may see and that was not deleted.
///
/// # Errors
/// `key_not_found`, `key_deleted`.
pub(super) async fn load_existing(request: &RequestContext, id: &str) -> Result<Key, Problem> {
    let key = load_any(&request.service, &request.caller, id).await?;
    if key.deleted_at.is_some() { Err(Problem::of(Code::KeyDeleted)) } else { Ok(key) }
}

/// Returns the key at a position or a time, and the time at which its expiry is judged.
async fn load_at(
    RequestContext { service, caller, .. }: &RequestContext,
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

/// Changes to a key. An absent field keeps its value, `null` clears it.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = EditKey)]
struct EditBody {
    /// The display name.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    name: Field,
    /// Its purpose.
    #[schema(value_type = Option<String>, max_length = 4000)]
    #[serde(default)]
    description: Field,
    /// The scopes it carries.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    scopes: Field,
    /// A JSON object of at most 16 KiB.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    metadata: Field,
    /// When it expires: RFC 3339, in the future. `null` for never.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(default)]
    expires_at: Field,
}

/// Changes a key's name, description, scopes, metadata or expiry.
#[utoipa::path(patch, path = "/v1/keys/{id}", operation_id = "editKey", tag = "Keys", request_body = EditBody,
    params(ObjectId, IfMatch),
    responses(
        (status = 200, body = KeyView, description = "the changed key"),
        (status = 410, body = ProblemBody, description = "`key_deleted`"),
        (status = 422, body = ProblemBody,
            description = "`invalid_request` with every invalid field; `policy_violation` with every \
                violation of the organization's policy"),
    ))]
async fn edit(request: RequestContext, id: PathId, body: JsonBody<EditBody>) -> Result<Response, Problem> {
    // Read here so that scopes that its API does not have are reported together with the other invalid
    // fields.
    let key = load_any(&request.service, &request.caller, &id).await?;
    let mut checks = Checks::default();
    let edit = EditKey {
        name: checks.change("name", &body.name, text(Name::new)),
        description: checks.change("description", &body.description, text(Description::new)),
        metadata: checks.change("metadata", &body.metadata, metadata),
        scopes: checks.change("scopes", &body.scopes, scopes).map(Option::unwrap_or_default),
        expires_at: checks.change("expires_at", &body.expires_at, parsed::<Timestamp>),
    };
    checks.unknown(&body.unknown);
    if let Some(api) = key.api_id.and_then(|id| request.service.index.api(id)) {
        check_scopes(&api, edit.scopes.as_deref(), &mut checks);
    }
    checks.not_past("expires_at", edit.expires_at.flatten(), request.service.now());
    checks.finish()?;
    let command = Command::Key(key.id, KeyCommand::Edit(Box::new(edit)));
    show_changed(&request.service, request.execute(command).await?).await
}

/// Answers a changed key.
async fn show_changed(service: &Arc<Service>, outcome: Outcome<Key>) -> Result<Response, Problem> {
    let last_verified = last_verified(service, outcome.object.id).await;
    outcome.reply().json(&KeyView::of(&outcome.object, outcome.time).last_verified(last_verified))
}

/// Returns when a key was last verified, for the answer to an executed change. If that is not available right
/// now, the answer must still report success.
async fn last_verified(service: &Arc<Service>, id: KeyId) -> Option<Timestamp> {
    service.last_verified(id).await.unwrap_or_default()
}

/// Returns the id of a key that the caller may see. The key is read only for callers that are bound to an
/// organization.
async fn find(request: &RequestContext, id: &str) -> Result<KeyId, Problem> {
    if request.caller.bound_to().is_some() {
        return load_any(&request.service, &request.caller, id).await.map(|key| key.id);
    }
    id.parse().map_err(|_| Problem::of(Code::KeyNotFound))
}

/// Executes a command on a key once, and answers the changed key. `action` is the last part of the path.
async fn act(
    request: &RequestContext,
    (id, action): (&str, &str),
    body: &[u8],
    command: KeyCommand,
) -> Result<Response, Problem> {
    let key = find(request, id).await?;
    let endpoint = format!("POST /v1/keys/{id}/{action}");
    let outcome = request.execute_once(&endpoint, body, Command::Key(key, command)).await?;
    show_changed(&request.service, outcome).await
}

/// Why a key is revoked.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = RevokeKey)]
struct RevokeBody {
    /// `unspecified`, `key_compromise`, `superseded`, `affiliation_changed` or `privilege_withdrawn`.
    #[schema(value_type = Option<String>, example = "superseded")]
    #[serde(default)]
    reason: Field,
    /// The reason in words.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    note: Field,
}

/// Revokes a key. No verification that starts after this is answered returns VALID. The key can be
/// reactivated.
#[utoipa::path(post, path = "/v1/keys/{id}/revoke", operation_id = "revokeKey", tag = "Keys",
    request_body = Option<RevokeBody>, params(ObjectId, IdempotencyKey, IfMatch),
    responses(
        (status = 200, body = KeyView, description = "the revoked key"),
        (status = 409, body = ProblemBody, description = "`key_already_revoked`, `key_expired`"),
        (status = 410, body = ProblemBody, description = "`key_deleted`"),
    ))]
async fn revoke(
    request: RequestContext,
    id: PathId,
    body: JsonBody<RevokeBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let reason = checks.optional("reason", &body.reason, parsed::<RevocationReason>).unwrap_or_default();
    let note = checks.optional("note", &body.note, text(Note::new));
    checks.unknown(&body.unknown);
    checks.finish()?;
    act(&request, (&id, "revoke"), &body.bytes, KeyCommand::Revoke { reason, note }).await
}

/// Reactivates a revoked key.
#[utoipa::path(post, path = "/v1/keys/{id}/reactivate", operation_id = "reactivateKey", tag = "Keys",
    request_body = Option<NoFields>, params(ObjectId, IdempotencyKey, IfMatch),
    responses(
        (status = 200, body = KeyView, description = "the reactivated key"),
        (status = 409, body = ProblemBody, description = "`key_not_revoked`, `key_expired`"),
        (status = 410, body = ProblemBody, description = "`key_deleted`"),
        (status = 422, body = ProblemBody,
            description = "`policy_violation`: its user has as many active keys as the policy allows"),
    ))]
async fn reactivate(
    request: RequestContext,
    id: PathId,
    Json { body, bytes }: Json<NoFields>,
) -> Result<Response, Problem> {
    body.check()?;
    act(&request, (&id, "reactivate"), &bytes, KeyCommand::Reactivate).await
}

/// How a key's token is replaced.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = RotateKey)]
struct RotateBody {
    /// For how many seconds the previous token stays valid: 0 to 7,776,000 (90 days). It never outlives the
    /// key. Default 0.
    #[schema(value_type = Option<u64>, example = 3600)]
    #[serde(default)]
    overlap_seconds: Field,
}

/// Replaces a key's token. The key keeps its id. Only this answer shows the new token.
#[utoipa::path(post, path = "/v1/keys/{id}/rotate", operation_id = "rotateKey", tag = "Keys",
    request_body = Option<RotateBody>, params(ObjectId, IdempotencyKey, IfMatch),
    responses(
        (status = 200, body = KeyWithToken, description = "the key and its new token"),
        (status = 409, body = ProblemBody, description = "`key_revoked`, `key_expired`"),
        (status = 410, body = ProblemBody, description = "`key_deleted`"),
    ))]
async fn rotate(
    request: RequestContext,
    id: PathId,
    body: JsonBody<RotateBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let overlap = checks.optional("overlap_seconds", &body.overlap_seconds, number(OVERLAP_SECONDS_MAX));
    checks.unknown(&body.unknown);
    checks.finish()?;
    let RequestContext { service, caller, headers } = request;
    let key = load_any(&service, &caller, &id).await?;
    let name = format!("POST /v1/keys/{id}/rotate");
    let overlap_millis = i64::try_from(overlap.unwrap_or(0) * 1_000).unwrap_or(i64::MAX);
    let (outcome, token) =
        issuing::rotate(&service, &caller, &headers, (&name, &body.bytes), &key, overlap_millis).await?;
    let last_verified = last_verified(&service, outcome.object.id).await;
    let KeyWithToken { key, token } = KeyWithToken::of(&outcome, &token);
    outcome.reply().secret().json(&KeyWithToken { key: key.last_verified(last_verified), token })
}

/// Deletes a key. This is final. Its history remains.
#[utoipa::path(delete, path = "/v1/keys/{id}", operation_id = "deleteKey", tag = "Keys",
    params(ObjectId, IfMatch),
    responses(
        (status = 204, description = "the key is deleted"),
        (status = 410, body = ProblemBody, description = "`key_deleted`: it was already deleted"),
    ))]
async fn delete(request: RequestContext, id: PathId) -> Result<Response, Problem> {
    let key = find(&request, &id).await?;
    request.execute_without_answer(Command::Key(key, KeyCommand::Delete)).await
}
