//! A backup of the running service (docs/backup.md).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, header};
use keyledger_engine::backup::{Header, Source};
use keyledger_engine::log::LogReader;
use keyledger_engine::transparency::checkpoint_file;
use keyledger_engine::value::position::Position;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Problem, ProblemBody};
use crate::auth::caller::Caller;
use crate::request::precondition::{POSITION, position_value};
use crate::service::Service;

/// Chunks that wait for a slow reader; each holds up to 256 events.
const CHUNKS_MAX: usize = 4;

/// The call.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(backup))
}

/// A backup of the log up to a checkpoint signed for it, in one file that proves itself and that `replay-tool restore`
/// reads. Everything answered before is in it. Keys that sign are not.
#[utoipa::path(get, path = "/v1/backup", operation_id = "getBackup", tag = "Log",
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream", description = "the backup; one that breaks off is none"),
        (status = 403, body = ProblemBody, description = "`forbidden`: it takes `admin` for all organizations"),
        (status = 503, body = ProblemBody, description = "`log_inconsistent`: the log is not a continuation of what was signed"),
    ))]
async fn backup(State(service): State<Arc<Service>>, caller: Caller) -> Result<Response, Problem> {
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
    let source = Source::new(log, header, Box::new(checkpoints), Vec::new());
    tracing::info!(actor = %caller.actor.id, %head, "gives a backup");
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

/// Sends chunk after chunk, as fast as they are taken, until the end, or the service's.
async fn write(service: Arc<Service>, mut source: Source, chunks: Sender<Result<Bytes, std::io::Error>>) {
    loop {
        let read = service.blocking_when_free(move || (source.next_chunk(), source));
        let chunk = tokio::select! {
            read = read => read,
            () = service.stopped() => {
                let _ = chunks.send(Err(std::io::Error::other("the service stops"))).await;
                return;
            }
        };
        let sent = match chunk {
            Ok((Ok(Some(chunk)), rest)) => {
                source = rest;
                chunks.send(Ok(chunk.into())).await
            }
            Ok((Ok(None), _)) => return,
            // Ending the body early is all that HTTP leaves to say that it is not whole.
            Ok((Err(error), _)) => {
                tracing::error!(%error, "a backup broke off");
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
