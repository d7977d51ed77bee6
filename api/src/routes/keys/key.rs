//! One key: read, change, revoke, reactivate, rotate, delete.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use keyledger_engine::domain::key::{EditKey, Key, KeyCommand, RevocationReason};
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::ledger::{Aggregate, Command};
use keyledger_engine::log;
use keyledger_engine::value::id::KeyId;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::text::{Description, Name, Note};
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::create::{check_scopes, metadata, scopes};
use crate::answer::problem::{Code, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::answer::view::{KeyView, KeyWithToken};
use crate::auth::caller::Caller;
use crate::request::body::{Checks, Field, Json, NoFields, number, parsed, text};
use crate::request::execution::{Outcome, execute};
use crate::request::precondition::{check_version, is_known, reach_min_position};
use crate::request::query::{PathId, QueryParameters};
use crate::routes::keys::issuing::{self, key_outcome};
use crate::service::Service;

/// The longest overlap of a rotation: 90 days.
const OVERLAP_SECONDS_MAX: u64 = 90 * 24 * 60 * 60;

/// The calls about one key.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(read, edit, delete))
        .routes(routes!(revoke))
        .routes(routes!(reactivate))
        .routes(routes!(rotate))
}

/// Reads a key from the log, whatever its state, for a caller who may see it.
///
/// # Errors
/// `key_not_found`, also for another organization's.
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

/// When a key is to be looked at. It describes the parameters; [`QueryParameters`] reads them.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
struct AsOf {
    /// An RFC 3339 time or a position: the key as it was then. Works for deleted keys too.
    at: Option<String>,
}

/// Shows a key, now or as it was.
#[utoipa::path(get, path = "/v1/keys/{id}", operation_id = "getKey", tag = "Keys", params(("id" = String, Path, description = "its id"), AsOf, ("If-None-Match" = Option<String>, Header, description = "the `ETag` that the caller has; 304 if it still is the present one"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
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
    mut parameters: QueryParameters,
) -> Result<Response, Problem> {
    let at = parameters.text("at");
    parameters.finish()?;
    reach_min_position(&headers, &service.ledger.watch_head()).await?;
    let position = service.ledger.head();
    let now = service.now();
    let (key, moment) = match at {
        Some(at) => {
            let (key, moment) = load_at(&service, &caller, &id, &at, now).await?;
            check_version(&headers, key.version)?;
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
    if is_known(&headers, key.version)? {
        return Ok(Reply::at(position).version(key.version).not_modified());
    }
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
    checks.not_past("expires_at", edit.expires_at.flatten(), service.now());
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
