//! Backups of the running service (docs/backup.md).

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use keyledger_engine::backup::source::Sign;
use keyledger_engine::backup::{Header, Source};
use keyledger_engine::log::LogReader;
use keyledger_engine::transparency::checkpoint_file;
use keyledger_engine::value::position::Position;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::admission::long_answers::LongAnswer;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::{POSITION, position_value};
use crate::evidence::security_log::Action;
use crate::request::context::RequestContext;
use crate::service::Service;
use crate::service::log_signer::Freshness;

/// The bytes of a chunk that the connection gets at a time.
const PIECE_LEN: usize = 16 * 1024;

/// Returns the endpoint.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(backup))
}

/// Returns a backup of the log up to a newly signed checkpoint: one file that proves its own integrity and is
/// signed with the log's key, for `replay-tool restore`. It has everything answered before this request. It
/// does not have the signing keys.
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
    let long_answer = service.long_answers.begin_backup(&caller.principal, &service.metrics.refusals)?;
    let (note, checkpoint) = service.checkpoint(Freshness::AtOnce).await?;
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
    service.security_log.done(&caller, (&Method::GET, "/v1/backup"), Action::Backup, service.now());
    tracing::info!(actor = %caller.actor.id, %head, "a caller requested a backup");
    let backup = Backup { service, source: Some(source), rest: Bytes::new(), _long_answer: long_answer };
    let pieces = futures_util::stream::unfold(backup, async |mut backup| {
        let piece = backup.next().await?;
        Some((piece, backup))
    });
    let mut response = Body::from_stream(pieces).into_response();
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

/// A backup that is being read.
struct Backup {
    service: Arc<Service>,
    /// None while a chunk is rendered, and after a failure.
    source: Option<Source>,
    /// The part of the last chunk that the connection has not taken yet.
    rest: Bytes,
    _long_answer: LongAnswer,
}

impl Backup {
    /// Waits for the next piece. A chunk is rendered when the connection has taken the one before.
    async fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        if self.rest.is_empty() {
            let mut source = self.source.take()?;
            let chunk = tokio::select! {
                chunk = self.service.renderers.render(move || (source.next_chunk(), source)) => chunk,
                () = self.service.stopped() => {
                    return Some(Err(std::io::Error::other("the service is stopping")));
                }
            };
            match chunk {
                Ok((Ok(chunk), source)) => {
                    self.rest = chunk?.into();
                    self.source = Some(source);
                }
                // Once the body has begun, ending it early is the only way to report that the backup is
                // incomplete.
                Ok((Err(error), _)) => {
                    tracing::error!(%error, "a backup ended early");
                    return Some(Err(std::io::Error::other(error)));
                }
                Err(problem) => return Some(Err(std::io::Error::other(problem.detail))),
            }
        }
        Some(Ok(self.rest.split_to(self.rest.len().min(PIECE_LEN))))
    }
}
