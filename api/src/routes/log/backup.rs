//! Backups of the running service (docs/backup.md).

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, header};
use keyledger_engine::backup::source::Sign;
use keyledger_engine::backup::{Header, Source};
use keyledger_engine::log::LogReader;
use keyledger_engine::transparency::checkpoint_file;
use keyledger_engine::value::position::Position;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::{POSITION, position_value};
use crate::request::context::RequestContext;
use crate::service::Service;

/// The most chunks that wait for a slow client. Each has up to 256 events.
const CHUNKS_MAX: usize = 4;

/// Returns the endpoint.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(backup))
}

/// Returns a backup of the log up to a newly signed checkpoint: one file that proves its own integrity and is
/// signed with the log's key, for `replay-tool restore`. It has everything answered before this request. It does not have the signing keys.
#[utoipa::path(get, path = "/v1/backup", operation_id = "getBackup", tag = "Log",
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream",
            description = "the backup; an incomplete one cannot be restored"),
        (status = 403, body = ProblemBody,
            description = "`forbidden`: it needs `admin` for all organizations"),
        (status = 503, body = ProblemBody,
            description = "`log_inconsistent`: the log does not continue the log that was signed"),
    ))]
async fn backup(request: RequestContext) -> Result<Response, Problem> {
    let RequestContext { service, caller, .. } = request;
    let (note, checkpoint) = service.checkpoint(true).await?;
    let head = Position::new(checkpoint.size);
    let log: Arc<dyn LogReader> = service.ledger.reader();
    let header = Header {
        log_id: log.log_id(),
        head,
        root: checkpoint.root,
        time: service.now(),
        checkpoint: Some(note.to_string()),
        log_key: Some(service.log_signer.verifier().to_string()),
    };
    let path = service.log_signer.checkpoints().to_path_buf();
    let checkpoints = service.blocking(move || checkpoint_file::iter(&path)).await?;
    let checkpoints = checkpoints.map_err(|error| Problem::internal(&error))?;
    let signer = Arc::clone(&service.log_signer);
    let sign: Sign = Box::new(move |hash| signer.sign_backup(hash));
    let source = Source::new(log, header, Box::new(checkpoints), Vec::new(), Some(sign));
    tracing::info!(actor = %caller.actor.id, %head, "a caller requested a backup");
    let (sender, receiver) = channel(CHUNKS_MAX);
    tokio::spawn(write(service, source, sender));
    let mut response = Body::from_stream(ReceiverStream::new(receiver)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"keyledger.backup\""),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(POSITION, position_value(head));
    Ok(response)
}

/// Sends the chunks as fast as the client takes them, until the last one or until the service stops.
async fn write(service: Arc<Service>, mut source: Source, chunks: Sender<Result<Bytes, std::io::Error>>) {
    loop {
        let read = service.blocking_when_free(move || (source.next_chunk(), source));
        let chunk = tokio::select! {
            read = read => read,
            () = service.stopped() => {
                let _ = chunks.send(Err(std::io::Error::other("the service is stopping"))).await;
                return;
            }
        };
        let sent = match chunk {
            Ok((Ok(Some(chunk)), rest)) => {
                source = rest;
                chunks.send(Ok(chunk.into())).await
            }
            Ok((Ok(None), _)) => return,
            // Once the body has begun, ending it early is the only way to report that the backup is
            // incomplete.
            Ok((Err(error), _)) => {
                tracing::error!(%error, "a backup ended early");
                let _ = chunks.send(Err(std::io::Error::other(error))).await;
                return;
            }
            Err(problem) => {
                let _ = chunks.send(Err(std::io::Error::other(problem.detail))).await;
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}
