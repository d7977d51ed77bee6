//! The log for outside verification: C2SP tlog-tiles, and the proof of one event.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, header};
use keyledger_engine::transparency::proof::{FILE_EXTENSION, InclusionProof};
use keyledger_engine::transparency::tile::{Content, TilePath};
use keyledger_engine::value::position::Position;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::code::Code;
use crate::answer::problem::{Problem, ProblemBody};
use crate::auth::caller::{Caller, has_caller};
use crate::request::query::PathId;
use crate::service::Service;
use crate::service::log_signer::Freshness;

const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// A newer checkpoint may follow within a second.
const FOR_SECONDS: HeaderValue = HeaderValue::from_static("public, max-age=1");
/// The content of a tile's path never changes. This includes partial tiles, because their path has their
/// size.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// Entries have personal text, such as the names of keys, and only some callers may read them.
const NEVER: HeaderValue = HeaderValue::from_static("no-store");

/// Returns the endpoints for verifying the log.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(checkpoint))
        .routes(routes!(verifier))
        .routes(routes!(hash_tile))
        .routes(routes!(entry_bundle))
        .routes(routes!(proof))
}

/// Returns the newest signed checkpoint (C2SP tlog-checkpoint). It has only the number of events and the root
/// of the Merkle tree, so it needs no credential. With one it is at most a second old, without one ten.
#[utoipa::path(get, path = "/log/checkpoint", operation_id = "getCheckpoint", tag = "Log", security(()),
    responses(
        (status = 200, body = String, content_type = "text/plain", description = "a signed note"),
        (status = 503, body = ProblemBody,
            description = "`log_inconsistent`: the log does not continue the log that was signed"),
    ))]
async fn checkpoint(State(service): State<Arc<Service>>, parts: Parts) -> Result<Response, Problem> {
    let freshness = if has_caller(&service, &parts) { Freshness::ForCaller } else { Freshness::ForAnybody };
    let (note, _) = service.checkpoint(freshness).await?;
    let headers: [(HeaderName, HeaderValue); 2] =
        [(header::CONTENT_TYPE, PLAIN_TEXT), (header::CACHE_CONTROL, FOR_SECONDS)];
    Ok((headers, note.to_string()).into_response())
}

/// Returns the key that verifies the checkpoints' signatures (C2SP signed-note, `<name>+<id>+<key>`).
#[utoipa::path(get, path = "/log/key", operation_id = "getLogKey", tag = "Log", security(()),
    responses((status = 200, body = String, content_type = "text/plain", description = "the verifier key")))]
async fn verifier(State(service): State<Arc<Service>>) -> Response {
    ([(header::CONTENT_TYPE, PLAIN_TEXT)], format!("{}\n", service.log_signer.verifier())).into_response()
}

/// Returns a tile of hashes (C2SP tlog-tiles). Hashes reveal nothing about the hashed events, so it needs no
/// credential.
#[utoipa::path(get, path = "/log/tile/{level}/{*index}", operation_id = "getHashTile", tag = "Log",
    security(()),
    params(
        ("level" = String, Path, description = "0 to 63"),
        ("index" = String, Path, description = "such as `x001/x234/067` or `000.p/17`"),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream",
            description = "up to 256 hashes of 32 bytes"),
        (status = 404, body = ProblemBody, description = "`tile_not_found`: the log is shorter"),
    ))]
async fn hash_tile(
    State(service): State<Arc<Service>>,
    Path((level, index)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let path = TilePath::parse(&format!("{level}/{index}"));
    // An encoded path such as %65ntries reaches this handler instead of the one that requires a caller.
    let path = path.filter(|path| path.content != Content::Entries);
    tile(&service, path.ok_or_else(|| Problem::of(Code::TileNotFound))?, FOR_EVER).await
}

/// Returns a bundle of entries (C2SP tlog-tiles): the stored records, each after its length in two bytes.
#[utoipa::path(get, path = "/log/tile/entries/{*index}", operation_id = "getEntryBundle", tag = "Log",
    params(("index" = String, Path, description = "such as `x001/x234/067` or `000.p/17`")),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream",
            description = "up to 256 entries"),
        (status = 403, body = ProblemBody,
            description = "`forbidden`: it needs `events:read` for all organizations"),
        (status = 404, body = ProblemBody, description = "`tile_not_found`: the log is shorter"),
    ))]
async fn entry_bundle(
    State(service): State<Arc<Service>>,
    _caller: Caller,
    Path(index): Path<String>,
) -> Result<Response, Problem> {
    let path = TilePath::parse(&format!("entries/{index}")).ok_or_else(|| Problem::of(Code::TileNotFound))?;
    tile(&service, path, NEVER).await
}

async fn tile(service: &Arc<Service>, path: TilePath, cache: HeaderValue) -> Result<Response, Problem> {
    let bytes = service.read_log(move |log| path.read(log)).await?;
    let bytes = bytes.ok_or_else(|| Problem::of(Code::TileNotFound))?;
    Ok(([(header::CONTENT_TYPE, BYTES), (header::CACHE_CONTROL, cache)], bytes).into_response())
}

/// Returns the proof that an event is in the log (C2SP tlog-proof): a file that can be verified without this
/// service.
#[utoipa::path(get, path = "/v1/events/{position}/proof", operation_id = "getEventProof", tag = "Log",
    params(("position" = u64, Path, description = "the event's position")),
    responses(
        (status = 200, body = String, content_type = "text/plain", description = "the proof"),
        (status = 404, body = ProblemBody,
            description = "`event_not_found`: no event that the caller may see has this position"),
        (status = 503, body = ProblemBody, description = "`log_inconsistent`"),
    ))]
async fn proof(
    State(service): State<Arc<Service>>,
    caller: Caller,
    position: PathId,
) -> Result<Response, Problem> {
    let not_found = || Problem::of(Code::EventNotFound);
    let position: Position = position.parse().map_err(|_| not_found())?;
    let before = Position::new(position.entry_index().ok_or_else(not_found)?);
    let records = service.read_log(move |log| log.read(before, 1)).await?;
    if !records.first().is_some_and(|record| caller.sees_owned_by(record.organization_id.as_ref())) {
        return Err(not_found());
    }
    let (mut note, mut checkpoint) = service.checkpoint(Freshness::ForCaller).await?;
    if checkpoint.size < position.get() {
        (note, checkpoint) = service.checkpoint(Freshness::AtOnce).await?;
    }
    let proof = service
        .read_log(move |log| InclusionProof::new(log, position, &note, checkpoint.size))
        .await?
        .ok_or_else(not_found)?;
    let name = format!("attachment; filename=\"event-{position}.{FILE_EXTENSION}\"");
    let name = HeaderValue::from_str(&name).map_err(|error| Problem::internal(&error))?;
    let headers = [(header::CONTENT_TYPE, PLAIN_TEXT), (header::CONTENT_DISPOSITION, name)];
    Ok((StatusCode::OK, headers, proof.to_text()).into_response())
}
