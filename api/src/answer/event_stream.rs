//! Events as a stream: server-sent events that go on as long as the caller listens, and files of lines.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use keyledger_engine::domain::record::Record;
use keyledger_projections::audit_trail::{AuditPage, AuditQuery, event_json};
use keyledger_projections::export;
use keyledger_projections::stored::store;
use tokio::sync::mpsc::Sender;

use crate::answer::problem::{Code, Problem};
use crate::auth::caller::StandingCaller;
use crate::auth::origin::conceal;
use crate::auth::principal::Principal;
use crate::service::Service;

/// Events read at a time.
const BATCH_LEN: usize = 250;
/// A stream without news says so this often, so that nothing between takes it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long to wait before events that could not be read are read again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How events are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A page.
    Json,
    /// A page, in the JSON batch format of CloudEvents 1.0.
    CloudEventsBatch,
    /// Server-sent events (WHATWG HTML §9.2).
    ServerSentEvents,
    /// A file, as the replay tool writes it too.
    File(export::Format),
}

impl Format {
    /// The names that `format` takes, and what `Accept` calls the same. One line of CloudEvents or OCSF is no different
    /// from any other JSON to HTTP, so that `Accept` has no name for files of them.
    const TABLE: [(Self, &'static str, Option<&'static str>); 7] = [
        (Self::Json, "json", Some("application/json")),
        (Self::CloudEventsBatch, "cloudevents-batch", Some("application/cloudevents-batch+json")),
        (Self::ServerSentEvents, "sse", Some("text/event-stream")),
        (Self::File(export::Format::NdJson), "ndjson", Some("application/x-ndjson")),
        (Self::File(export::Format::Csv), "csv", Some("text/csv")),
        (Self::File(export::Format::CloudEvents), "cloudevents", None),
        (Self::File(export::Format::Ocsf), "ocsf", None),
    ];

    /// The format with this name.
    #[must_use]
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The format that `Accept` prefers (RFC 9110 §12.5.1); JSON without it. Of those it likes alike, the one named first.
    ///
    /// # Errors
    /// `not_acceptable`.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<Range> =
            accepted.flat_map(|value| value.split(',')).filter_map(Range::read).collect();
        if ranges.is_empty() {
            return Ok(Self::Json);
        }
        let mut best: Option<(Self, u16, usize)> = None;
        for format in Self::BY_ACCEPT {
            let matching = ranges.iter().enumerate().filter(|(_, range)| range.precision(format) > 0);
            // Of several ranges for one format, the most precise says how well it is liked.
            let Some((place, range)) = matching.max_by_key(|(_, range)| range.precision(format)) else {
                continue;
            };
            let is_better = best.is_none_or(|(_, quality, before)| {
                range.quality > quality || range.quality == quality && place < before
            });
            if range.quality > 0 && is_better {
                best = Some((format, range.quality, place));
            }
        }
        best.map(|(format, ..)| format).ok_or_else(|| Problem::of(Code::NotAcceptable))
    }

    /// What `Accept` can name; where a range of types is named, the first of them stands for it.
    const BY_ACCEPT: [Self; 5] = [
        Self::Json,
        Self::File(export::Format::Csv),
        Self::File(export::Format::NdJson),
        Self::CloudEventsBatch,
        Self::ServerSentEvents,
    ];

    /// The value of `Content-Type`.
    #[must_use]
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::CloudEventsBatch => "application/cloudevents-batch+json",
            Self::ServerSentEvents => "text/event-stream",
            Self::File(format) => format.media_type(),
        }
    }
}

/// A range of media types in `Accept`.
struct Range {
    essence: String,
    /// In thousandths; 0 for what is not acceptable.
    quality: u16,
}

impl Range {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().filter(|it| !it.is_empty())?.to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let weight = weight.and_then(|weight| weight.parse::<f32>().ok()).unwrap_or(1.0);
        // What is not a number from 0 to 1 counts as one of these.
        Some(Self { essence, quality: (weight * 1_000.0) as u16 })
    }

    /// How precisely it names a format: not at all, among all others, among those of its kind, or by its name.
    fn precision(&self, format: Format) -> u8 {
        let media_type = format.media_type();
        let media_type = media_type.split(';').next().unwrap_or_default();
        let kind = media_type.split('/').next().unwrap_or_default();
        match self.essence.as_str() {
            essence if essence == media_type => 3,
            "application/problem+json" if format == Format::Json => 3,
            // A stream that does not end is for who asks for it by its name.
            _ if format == Format::ServerSentEvents => 0,
            "*/*" => 1,
            essence if essence.strip_suffix("/*") == Some(kind) => 2,
            _ => 0,
        }
    }
}

/// Chunks that wait for their reader; every one is up to [`BATCH_LEN`] events, which take room and may be erased.
const CHUNKS_MAX: usize = 1;
/// Bytes of a chunk that are given to the connection at a time.
const PIECE_LEN: usize = 16 * 1024;

/// A part of a stream.
struct Chunk {
    bytes: Bytes,
    /// How many erasures there had been when its events were read; none when it has no events.
    erasures: Option<u64>,
}

impl Chunk {
    /// A chunk that holds no events.
    const fn without_events(bytes: Bytes) -> Self {
        Self { bytes, erasures: None }
    }
}

type Chunks = Sender<Result<Chunk, std::io::Error>>;

/// A stream, from the one who reads its events to the one who sends it. It breaks off rather than give the connection text
/// that was erased after it was read: whoever gets it asks for the rest again.
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
                let error = std::io::Error::other("personal text was erased; ask for the rest again");
                return Some((Err(error), (receiver, None)));
            }
            let piece = chunk.bytes.split_to(chunk.bytes.len().min(PIECE_LEN));
            let rest = (!chunk.bytes.is_empty()).then_some(chunk);
            Some((Ok(piece), (receiver, rest)))
        }
    });
    (chunks, Body::from_stream(pieces))
}

/// A file of what matches up to the position at which the call comes. It breaks off when the caller's credential ends.
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

/// What matches as server-sent events, and then whatever comes, until nobody listens, as many as were asked for have been
/// sent, or the caller's credential has ended: nothing is sent that was read after that.
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
        let (trail, asked, reader) =
            (service.audit_trail.clone(), query.clone(), Arc::clone(caller.principal()));
        // Writing lines takes longer than finding their events: both keep off the threads that answer verifications.
        let batch = move || {
            let mut page = seen_by(&reader, trail.query(&asked)?);
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
                // Ending the body early is all that HTTP leaves to say that a file is not whole.
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
    // Sent at once, so that the caller knows that the stream has begun.
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

/// Reads a page as a caller sees it; waits for the disk elsewhere.
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
    Ok(seen_by(caller, page))
}

/// A page without what a caller is not to know.
#[must_use]
pub(crate) fn seen_by(caller: &Principal, mut page: AuditPage) -> AuditPage {
    page.records.iter_mut().for_each(|record| conceal(caller, record));
    page
}

fn server_sent_events(records: &[Record]) -> Bytes {
    let mut text = String::new();
    for record in records {
        let (position, event_type) = (record.position, record.event.event_type());
        // JSON text holds no line breaks, so one data line is enough.
        text.push_str(&format!("id: {position}\nevent: {event_type}\ndata: {}\n\n", event_json(record)));
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_chooses_the_format() {
        let of = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, http::HeaderValue::from_static(accept));
            Format::of(&headers).ok()
        };
        assert_eq!(of("*/*"), Some(Format::Json));
        assert_eq!(of("text/event-stream"), Some(Format::ServerSentEvents));
        assert_eq!(of("image/png, application/x-ndjson;q=0.9"), Some(Format::File(export::Format::NdJson)));
        assert_eq!(of("text/csv"), Some(Format::File(export::Format::Csv)));
        assert_eq!(of("application/cloudevents-batch+json"), Some(Format::CloudEventsBatch));
        assert_eq!(of("image/png"), None);
        assert_eq!(of("text/*"), Some(Format::File(export::Format::Csv)));
        assert_eq!(of("text/csv;q=0"), None);
        assert_eq!(of("text/csv;q=0, */*"), Some(Format::Json));
        assert_eq!(of("application/json;q=0.1, text/csv;q=0.2"), Some(Format::File(export::Format::Csv)));
        assert_eq!(of("application/json;q=0, */*;q=0.5"), Some(Format::File(export::Format::Csv)));
        assert_eq!(of("text/csv, application/json"), Some(Format::File(export::Format::Csv)));
        assert_eq!(of("text/*, text/event-stream;q=0.5"), Some(Format::File(export::Format::Csv)));
    }

    #[test]
    fn a_file_has_one_name_everywhere() {
        for format in export::Format::ALL {
            assert_eq!(Format::from_name(format.as_str()), Some(Format::File(format)));
        }
        assert_eq!(Format::from_name("NDJSON"), None);
    }
}
