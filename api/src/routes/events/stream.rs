//! Events as streams: server-sent events that continue while the client listens, and files of lines.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use keyledger_engine::domain::record::Record;
use keyledger_projections::audit_trail::{AuditPage, AuditQuery, event_json};
use keyledger_projections::export;
use keyledger_projections::stored::store;
use keyledger_projections::verification::VerificationIndex;
use tokio::sync::mpsc::Sender;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::caller::StandingCaller;
use crate::auth::origin::conceal;
use crate::auth::principal::Principal;
use crate::service::Service;

/// The number of events read at a time.
const BATCH_LEN: usize = 250;
/// The interval of comments on an idle stream, so that no proxy closes it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The delay before events are read again after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The chunks that wait for a slow client. Each has up to [`BATCH_LEN`] events, which use memory and may be
/// erased.
const CHUNKS_MAX: usize = 1;
/// The bytes of a chunk that the connection gets at a time.
const PIECE_LEN: usize = 16 * 1024;

/// A part of a stream.
struct Chunk {
    bytes: Bytes,
    /// The number of erasures when its events were read. `None` for a chunk without events.
    erasures: Option<u64>,
}

impl Chunk {
    /// Returns a chunk without events.
    const fn without_events(bytes: Bytes) -> Self {
        Self { bytes, erasures: None }
    }
}

type Chunks = Sender<Result<Chunk, std::io::Error>>;

/// Returns the two ends of a stream: one takes chunks of events, the other is the answer's body. The body
/// fails rather than send text that was erased after it was read. The client then asks for the remaining
/// events again.
fn stream(service: Arc<Service>) -> (Chunks, Body) {
    let (chunks, receiver) = tokio::sync::mpsc::channel(CHUNKS_MAX);
    let pieces = futures_util::stream::unfold((receiver, None), move |(mut receiver, rest)| {
        let service = Arc::clone(&service);
        async move {
            let mut chunk: Chunk = match rest {
                Some(rest) => rest,
                None => match receiver.recv().await? {
                    Ok(chunk) => chunk,
                    Err(error) => return Some((Err(error), (receiver, None))),
                },
            };
            if chunk.erasures.is_some_and(|erasures| erasures != service.index.erasures()) {
                receiver.close();
                let error =
                    std::io::Error::other("personal text was erased; ask for the remaining events again");
                return Some((Err(error), (receiver, None)));
            }
            let piece = chunk.bytes.split_to(chunk.bytes.len().min(PIECE_LEN));
            let rest = (!chunk.bytes.is_empty()).then_some(chunk);
            Some((Ok(piece), (receiver, rest)))
        }
    });
    (chunks, Body::from_stream(pieces))
}

/// Returns a file of the matching events up to the log's current position. It ends early when the caller's
/// credential becomes invalid.
pub(crate) fn file(
    service: &Arc<Service>,
    caller: StandingCaller,
    query: AuditQuery,
    limited: bool,
    format: export::Format,
) -> Body {
    let (chunks, body) = stream(Arc::clone(service));
    tokio::spawn(write_file(Arc::clone(service), caller, query, limited, format, chunks));
    body
}

/// Returns the matching events as server-sent events, followed by new ones. The stream ends when the client
/// disconnects, when the requested number was sent, or when the caller's credential becomes invalid. No event
/// read after that is sent.
pub(crate) fn server_sent(
    service: &Arc<Service>,
    caller: StandingCaller,
    query: AuditQuery,
    limited: bool,
) -> Body {
    let (chunks, body) = stream(Arc::clone(service));
    tokio::spawn(follow(Arc::clone(service), query, limited, caller, chunks));
    body
}

async fn write_file(
    service: Arc<Service>,
    mut caller: StandingCaller,
    mut query: AuditQuery,
    limited: bool,
    format: export::Format,
    chunks: Chunks,
) {
    let mut begun = Vec::new();
    format.write_header(&mut begun);
    if !begun.is_empty() && chunks.send(Ok(Chunk::without_events(begun.into()))).await.is_err() {
        return;
    }
    let mut left = if limited { query.limit } else { usize::MAX };
    let head = service.audit_trail_handle.position();
    while left > 0 {
        query.limit = left.min(BATCH_LEN);
        let erasures = Some(service.index.erasures());
        let (trail, index) = (service.audit_trail.clone(), Arc::clone(&service.index));
        let (asked, reader) = (query.clone(), Arc::clone(caller.principal()));
        // Writing lines takes longer than finding their events. Both stay off the threads that answer
        // verifications.
        let batch = move || {
            let mut page = seen_by(&index, &reader, trail.query(&asked)?);
            page.records.retain(|record| record.position <= head);
            let mut lines = Vec::new();
            format.write(trail.log_id(), &page.records, &mut lines);
            Ok((lines, page.records.len(), page.next))
        };
        let done = service.blocking(batch).await;
        let done = if caller.stands(&service) { done } else { Err(Problem::of(Code::Unauthenticated)) };
        let done = done.and_then(|done: Result<_, store::Error>| done.map_err(Problem::from));
        let (lines, count, next) = match done {
            Ok(done) => done,
            Err(problem) => {
                // Once the body has begun, ending it early is the only way to report that the file is
                // incomplete.
                let _ = chunks.send(Err(std::io::Error::other(problem.detail))).await;
                return;
            }
        };
        left -= count;
        if !lines.is_empty() && chunks.send(Ok(Chunk { bytes: lines.into(), erasures })).await.is_err() {
            return;
        }
        let Some(next) = next.filter(|next| query.descending || *next <= head) else { return };
        if query.descending {
            query.before = Some(next);
        } else {
            query.after = next;
        }
    }
}

async fn follow(
    service: Arc<Service>,
    mut query: AuditQuery,
    limited: bool,
    mut caller: StandingCaller,
    chunks: Chunks,
) {
    let mut progress = service.audit_trail_handle.watch();
    let mut left = if limited { query.limit } else { usize::MAX };
    // Sent at once, so that the client knows that the stream has begun.
    let begun = Chunk::without_events(Bytes::from_static(b"retry: 1000\n\n"));
    if chunks.send(Ok(begun)).await.is_err() {
        return;
    }
    while !service.is_stopping() && left > 0 {
        query.limit = left.min(BATCH_LEN);
        progress.mark_unchanged();
        let erasures = Some(service.index.erasures());
        let page = read(&service, caller.principal(), &query).await;
        if !caller.stands(&service) {
            return;
        }
        match page {
            Ok(page) => {
                let more = page.next.is_some();
                query.after = page.next.unwrap_or_else(|| page.position.max(query.after));
                left -= page.records.len();
                if !page.records.is_empty() {
                    let chunk = Chunk { bytes: server_sent_events(&page.records), erasures };
                    if chunks.send(Ok(chunk)).await.is_err() {
                        return;
                    }
                }
                if more || left == 0 {
                    continue;
                }
            }
            Err(_) => tokio::time::sleep(RETRY_AFTER).await,
        }
        tokio::select! {
            changed = progress.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(KEEP_ALIVE) => {
                let chunk = Chunk::without_events(Bytes::from_static(b": still here\n\n"));
                if chunks.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
            () = service.stopped() => return,
            () = chunks.closed() => return,
        }
    }
}

/// Reads a page as the caller may see it, on a thread that may block.
///
/// # Errors
/// `internal`, `overloaded`, `projection_not_ready`.
pub(crate) async fn read(
    service: &Arc<Service>,
    caller: &Principal,
    query: &AuditQuery,
) -> Result<AuditPage, Problem> {
    let (trail, query) = (service.audit_trail.clone(), query.clone());
    let page = service.blocking(move || trail.query(&query)).await?.map_err(Problem::from)?;
    Ok(seen_by(&service.index, caller, page))
}

/// Removes what a caller may not see from a page.
#[must_use]
pub(crate) fn seen_by(index: &VerificationIndex, caller: &Principal, mut page: AuditPage) -> AuditPage {
    page.records.iter_mut().for_each(|record| conceal(index, caller, record));
    page
}

fn server_sent_events(records: &[Record]) -> Bytes {
    let mut text = String::new();
    for record in records {
        let (position, event_type) = (record.position, record.event.event_type());
        // JSON text has no line breaks, so one data line is enough.
        text.push_str(&format!("id: {position}\nevent: {event_type}\ndata: {}\n\n", event_json(record)));
    }
    text.into()
}
