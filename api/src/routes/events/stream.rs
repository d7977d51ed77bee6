//! Events as streams: server-sent events that continue while the client listens, and files of lines.
//!
//! Both are rendered by [`Renderers`](crate::service::renderers), one chunk at a time, when the connection
//! asks for it: a client that does not read costs one chunk and no processor time.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use keyledger_engine::domain::record::Record;
use keyledger_engine::log::LogId;
use keyledger_engine::value::position::Position;
use keyledger_projections::audit_trail::{AuditPage, AuditQuery, event_json};
use keyledger_projections::export;
use keyledger_projections::stored::store;
use keyledger_projections::verification::VerificationIndex;
use tokio::sync::watch;

use crate::admission::long_answers::LongAnswer;
use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::caller::StandingCaller;
use crate::auth::origin::conceal;
use crate::auth::principal::Principal;
use crate::service::Service;

/// The bytes after which a chunk ends. Together with what the HTTP library has buffered, a reader has at most
/// 64 KiB in memory, or one event.
const CHUNK_LEN: usize = 32 * 1024;
/// The bytes of a chunk that the connection gets at a time.
const PIECE_LEN: usize = 16 * 1024;
/// Events rendered at a time: a chunk may be longer by the last of them.
const GROUP_LEN: usize = 8;
/// Events read for the first chunk, and the most for one.
const BATCH_LEN_FIRST: usize = 32;
const BATCH_LEN_MAX: usize = 250;
/// The interval of comments on an idle stream, so that no proxy closes it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The delay before events are read again after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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

/// Produces the chunks of a stream.
trait Chunks: Send + 'static {
    /// Waits for the next chunk; none at the end.
    fn next(&mut self) -> impl Future<Output = Option<std::io::Result<Chunk>>> + Send;
}

/// Returns an answer's body. It asks for a chunk when the connection has taken the one before. It fails
/// rather than send text that was erased after it was read, which the HTTP library may still have of the
/// chunk before. The client then asks for the remaining events again.
fn body(service: Arc<Service>, chunks: impl Chunks) -> Body {
    let begun = Chunk::without_events(Bytes::new());
    let pieces = futures_util::stream::unfold(Some((chunks, begun)), move |state| {
        let service = Arc::clone(&service);
        async move {
            let (mut chunks, mut chunk) = state?;
            let is_erased =
                |chunk: &Chunk| chunk.erasures.is_some_and(|erasures| erasures != service.index.erasures());
            if chunk.bytes.is_empty() && !is_erased(&chunk) {
                chunk = match chunks.next().await? {
                    Ok(chunk) => chunk,
                    Err(error) => return Some((Err(error), None)),
                };
            }
            if is_erased(&chunk) {
                let error =
                    std::io::Error::other("personal text was erased; ask for the remaining events again");
                return Some((Err(error), None));
            }
            let piece = chunk.bytes.split_to(chunk.bytes.len().min(PIECE_LEN));
            Some((Ok(piece), Some((chunks, chunk))))
        }
    });
    Body::from_stream(pieces)
}

/// What a stream's events look like.
#[derive(Clone, Copy)]
enum Form {
    File(export::Format),
    ServerSent,
}

impl Form {
    fn write(self, log_id: LogId, records: &[Record], bytes: &mut Vec<u8>) {
        match self {
            Self::File(format) => format.write(log_id, records, bytes),
            Self::ServerSent => bytes.extend_from_slice(server_sent_events(records).as_bytes()),
        }
    }
}

/// A caller's request for a stream.
pub(crate) struct Wanted {
    pub caller: StandingCaller,
    pub query: AuditQuery,
    /// Whether the query's limit is the client's own.
    pub limited: bool,
    /// Counts the stream until it ends.
    pub long_answer: LongAnswer,
}

/// Reads and renders the events of a stream.
struct Reader {
    service: Arc<Service>,
    caller: StandingCaller,
    query: AuditQuery,
    form: Form,
    /// How many events the client still gets.
    left: usize,
    /// How many events are read for the next chunk: about as many as the last one had room for.
    batch_len: usize,
    _long_answer: LongAnswer,
}

/// The events of a chunk.
struct Rendered {
    bytes: Vec<u8>,
    count: usize,
    /// The position of the last event, if more events match.
    next: Option<Position>,
    /// The position of the log up to which none is missing.
    position: Position,
}

impl Reader {
    fn new(service: &Arc<Service>, wanted: Wanted, form: Form) -> Self {
        let Wanted { caller, query, limited, long_answer } = wanted;
        let left = if limited { query.limit } else { usize::MAX };
        let service = Arc::clone(service);
        Self { service, caller, query, form, left, batch_len: BATCH_LEN_FIRST, _long_answer: long_answer }
    }

    /// Renders the next events up to the position `last`, as the caller may see them. Returns also the number
    /// of erasures before they were read.
    ///
    /// # Errors
    /// `unauthenticated` when the caller's credential has become invalid, `internal`, `projection_not_ready`.
    async fn render(&mut self, last: Position) -> Result<(Rendered, u64), Problem> {
        self.query.limit = self.left.min(self.batch_len);
        let erasures = self.service.index.erasures();
        let (trail, query, form) = (self.service.audit_trail.clone(), self.query.clone(), self.form);
        let (index, caller) = (Arc::clone(&self.service.index), Arc::clone(self.caller.principal()));
        let work = move || -> Result<Rendered, store::Error> {
            let mut page = seen_by(&index, &caller, trail.query(&query)?);
            page.records.retain(|record| record.position <= last);
            Ok(Rendered::of(&page, form, trail.log_id()))
        };
        let rendered = self.service.renderers.render(work).await?.map_err(Problem::from);
        if !self.caller.stands(&self.service) {
            return Err(Problem::of(Code::Unauthenticated));
        }
        let rendered = rendered?;
        self.left -= rendered.count;
        let was_cut = rendered.bytes.len() >= CHUNK_LEN;
        self.batch_len = if was_cut { rendered.count } else { self.batch_len * 2 };
        self.batch_len = self.batch_len.clamp(GROUP_LEN, BATCH_LEN_MAX);
        Ok((rendered, erasures))
    }
}

impl Rendered {
    /// Renders a page up to the length of a chunk.
    fn of(page: &AuditPage, form: Form, log_id: LogId) -> Self {
        let (mut bytes, mut count) = (Vec::new(), 0);
        for group in page.records.chunks(GROUP_LEN) {
            form.write(log_id, group, &mut bytes);
            count += group.len();
            if bytes.len() >= CHUNK_LEN {
                break;
            }
        }
        let is_cut = count < page.records.len();
        let last = page.records.get(..count).and_then(<[Record]>::last).map(|record| record.position);
        let next = if is_cut { last } else { page.next };
        Self { bytes, count, next, position: page.position }
    }
}

/// A file of events.
struct File {
    reader: Reader,
    /// The file's header until it was sent.
    header: Vec<u8>,
    /// The last position in the file.
    head: Position,
    has_ended: bool,
}

impl Chunks for File {
    async fn next(&mut self) -> Option<std::io::Result<Chunk>> {
        if !self.header.is_empty() {
            return Some(Ok(Chunk::without_events(std::mem::take(&mut self.header).into())));
        }
        while !self.has_ended && self.reader.left > 0 {
            let (rendered, erasures) = match self.reader.render(self.head).await {
                Ok(rendered) => rendered,
                // Once the body has begun, ending it early is the only way to report that the file is
                // incomplete.
                Err(problem) => return Some(Err(std::io::Error::other(problem.detail))),
            };
            let query = &mut self.reader.query;
            match rendered.next.filter(|next| query.descending || *next <= self.head) {
                Some(next) if query.descending => query.before = Some(next),
                Some(next) => query.after = next,
                None => self.has_ended = true,
            }
            if !rendered.bytes.is_empty() {
                return Some(Ok(Chunk { bytes: rendered.bytes.into(), erasures: Some(erasures) }));
            }
        }
        None
    }
}

/// Returns a file of the matching events up to the log's current position. It ends early when the caller's
/// credential becomes invalid.
pub(crate) fn file(service: &Arc<Service>, wanted: Wanted, format: export::Format) -> Body {
    let mut header = Vec::new();
    format.write_header(&mut header);
    let head = service.audit_trail_handle.position();
    let reader = Reader::new(service, wanted, Form::File(format));
    body(Arc::clone(service), File { reader, header, head, has_ended: false })
}

/// Events that continue.
struct Follower {
    reader: Reader,
    progress: watch::Receiver<Position>,
    has_begun: bool,
    /// Whether all events so far were sent.
    is_current: bool,
}

impl Chunks for Follower {
    async fn next(&mut self) -> Option<std::io::Result<Chunk>> {
        let service = Arc::clone(&self.reader.service);
        if !std::mem::replace(&mut self.has_begun, true) {
            // Sent at once, so that the client knows that the stream has begun.
            return Some(Ok(Chunk::without_events(Bytes::from_static(b"retry: 1000\n\n"))));
        }
        while !service.is_stopping() && self.reader.left > 0 {
            if std::mem::replace(&mut self.is_current, false) {
                tokio::select! {
                    changed = self.progress.changed() => changed.ok()?,
                    () = tokio::time::sleep(KEEP_ALIVE) => {
                        let comment = Bytes::from_static(b": still here\n\n");
                        return Some(Ok(Chunk::without_events(comment)));
                    }
                    () = service.stopped() => return None,
                }
            }
            self.progress.mark_unchanged();
            match self.reader.render(Position::new(u64::MAX)).await {
                Ok((rendered, erasures)) => {
                    self.is_current = rendered.next.is_none();
                    let query = &mut self.reader.query;
                    query.after = rendered.next.unwrap_or_else(|| rendered.position.max(query.after));
                    if !rendered.bytes.is_empty() {
                        return Some(Ok(Chunk { bytes: rendered.bytes.into(), erasures: Some(erasures) }));
                    }
                }
                Err(problem) if problem.code == Code::Unauthenticated => return None,
                Err(_) => tokio::time::sleep(RETRY_AFTER).await,
            }
        }
        None
    }
}

/// Returns the matching events as server-sent events, followed by new ones. The stream ends when the client
/// disconnects, when the requested number was sent, or when the caller's credential becomes invalid. No event
/// read after that is sent.
pub(crate) fn server_sent(service: &Arc<Service>, wanted: Wanted) -> Body {
    let progress = service.audit_trail_handle.watch();
    let reader = Reader::new(service, wanted, Form::ServerSent);
    body(Arc::clone(service), Follower { reader, progress, has_begun: false, is_current: false })
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

fn server_sent_events(records: &[Record]) -> String {
    let mut text = String::new();
    for record in records {
        let (position, event_type) = (record.position, record.event.event_type());
        // JSON text has no line breaks, so one data line is enough.
        text.push_str(&format!("id: {position}\nevent: {event_type}\ndata: {}\n\n", event_json(record)));
    }
    text
}
