//! Events as a stream: server-sent events that go on as long as the caller listens, and files of lines.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use keyledger_engine::record::Record;
use keyledger_projections::audit_trail::{AuditPage, AuditQuery, event_json};
use serde_json::Value;
use tokio::sync::mpsc::Sender;

use crate::problem::{Code, Problem};
use crate::service::Service;

/// Events read at a time.
const BATCH_LEN: usize = 500;
/// A stream without news says so this often, so that nothing between takes it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long to wait before events that could not be read are read again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A page.
    Json,
    /// Server-sent events (WHATWG HTML §9.2).
    ServerSentEvents,
    /// A JSON object a line.
    NdJson,
    /// RFC 4180, with a header line.
    Csv,
}

impl Format {
    const MEDIA_TYPES: [(Self, &'static str); 4] = [
        (Self::Json, "application/json"),
        (Self::ServerSentEvents, "text/event-stream"),
        (Self::NdJson, "application/x-ndjson"),
        (Self::Csv, "text/csv"),
    ];

    /// The format that `Accept` prefers; JSON without it. Of several, the first known one counts.
    ///
    /// # Errors
    /// `not_acceptable`.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(accept) = headers.get(header::ACCEPT) else { return Ok(Self::Json) };
        let accept = accept.to_str().unwrap_or("");
        for range in accept.split(',') {
            let essence = range.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
            if matches!(essence.as_str(), "" | "*/*" | "application/*" | "application/problem+json") {
                return Ok(Self::Json);
            }
            if essence == "text/*" {
                return Ok(Self::Csv);
            }
            if let Some((format, _)) = Self::MEDIA_TYPES.iter().find(|row| row.1 == essence) {
                return Ok(*format);
            }
        }
        Err(Problem::of(Code::NotAcceptable))
    }

    /// The value of `Content-Type`.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::ServerSentEvents => "text/event-stream",
            Self::NdJson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }
}

type Chunks = Sender<Result<Bytes, std::io::Error>>;

/// Writes events to `chunks` until there are no more, or, for server-sent events, until nobody listens.
pub async fn write(service: Arc<Service>, query: AuditQuery, limited: bool, format: Format, chunks: Chunks) {
    if format == Format::Csv && chunks.send(Ok(csv_lines(&[], true))).await.is_err() {
        return;
    }
    match format {
        Format::ServerSentEvents => follow(&service, query, &chunks).await,
        _ => drain(&service, query, limited, format, &chunks).await,
    }
}

/// Writes what matches up to the position at which the call came.
async fn drain(
    service: &Arc<Service>,
    mut query: AuditQuery,
    limited: bool,
    format: Format,
    chunks: &Chunks,
) {
    let mut left = if limited { query.limit } else { usize::MAX };
    let head = service.audit_trail_handle.position();
    while left > 0 {
        query.limit = left.min(BATCH_LEN);
        let mut page = match read(service, &query).await {
            Ok(page) => page,
            Err(problem) => {
                // Ending the body early is all that HTTP leaves to say that a file is not whole.
                let _ = chunks.send(Err(std::io::Error::other(problem.detail))).await;
                return;
            }
        };
        page.records.retain(|record| record.position <= head);
        left -= page.records.len();
        let lines = match format {
            Format::Csv => csv_lines(&page.records, false),
            _ => json_lines(&page.records),
        };
        if !lines.is_empty() && chunks.send(Ok(lines)).await.is_err() {
            return;
        }
        let Some(next) = page.next.filter(|next| query.descending || *next <= head) else { return };
        if query.descending {
            query.before = Some(next);
        } else {
            query.after = next;
        }
    }
}

/// Writes what matches, and then whatever comes.
async fn follow(service: &Arc<Service>, mut query: AuditQuery, chunks: &Chunks) {
    let mut progress = service.audit_trail_handle.watch();
    query.limit = BATCH_LEN;
    // Sent at once, so that the caller knows that the stream has begun.
    if chunks.send(Ok(Bytes::from_static(b"retry: 1000\n\n"))).await.is_err() {
        return;
    }
    while !service.is_stopping() {
        progress.mark_unchanged();
        match read(service, &query).await {
            Ok(page) => {
                let more = page.next.is_some();
                query.after = page.next.unwrap_or_else(|| page.position.max(query.after));
                if !page.records.is_empty()
                    && chunks.send(Ok(server_sent_events(&page.records))).await.is_err()
                {
                    return;
                }
                if more {
                    continue;
                }
            }
            Err(_) => tokio::time::sleep(RETRY_AFTER).await,
        }
        tokio::select! {
            changed = progress.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(KEEP_ALIVE) => {
                if chunks.send(Ok(Bytes::from_static(b": still here\n\n"))).await.is_err() {
                    return;
                }
            }
            () = service.stopped() => return,
            () = chunks.closed() => return,
        }
    }
}

async fn read(service: &Arc<Service>, query: &AuditQuery) -> Result<AuditPage, Problem> {
    let (trail, query) = (service.audit_trail.clone(), query.clone());
    service.blocking(move || trail.query(&query)).await?.map_err(|error| Problem::internal(&error))
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

fn json_lines(records: &[Record]) -> Bytes {
    let mut text = String::new();
    for record in records {
        text.push_str(&event_json(record).to_string());
        text.push('\n');
    }
    text.into()
}

const CSV_COLUMNS: [&str; 16] = [
    "position",
    "time",
    "type",
    "key_id",
    "organization_id",
    "actor_kind",
    "actor_id",
    "actor_ip",
    "actor_user_agent",
    "request_id",
    "id",
    "causation_id",
    "stream_kind",
    "stream_id",
    "version",
    "data",
];

fn csv_lines(records: &[Record], header: bool) -> Bytes {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let mut written = Ok(());
    if header {
        written = writer.write_record(CSV_COLUMNS);
    }
    for record in records {
        let event = event_json(record);
        written = written.and_then(|()| writer.write_record(CSV_COLUMNS.map(|column| cell(&event, column))));
    }
    if let Err(error) = written {
        tracing::error!(%error, "events were not written as CSV");
    }
    writer.into_inner().unwrap_or_default().into()
}

/// What an event says under a column. Spreadsheets take a text that begins like a formula for one; an apostrophe before
/// it makes it text (OWASP, "CSV Injection").
fn cell(event: &Value, column: &str) -> String {
    let value = match column {
        "actor_kind" | "actor_id" | "actor_ip" | "actor_user_agent" => {
            event.get("actor").and_then(|actor| actor.get(column.trim_start_matches("actor_")))
        }
        "stream_kind" | "stream_id" => {
            event.get("stream").and_then(|stream| stream.get(column.trim_start_matches("stream_")))
        }
        _ => event.get(column),
    };
    let text = match value {
        None | Some(Value::Null) => return String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_never_a_formula() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"] {
            let event = serde_json::json!({ "request_id": formula });
            assert_eq!(cell(&event, "request_id"), format!("'{formula}"));
        }
        let event = serde_json::json!({ "position": 7, "key_id": null, "actor": { "ip": "::1" } });
        assert_eq!(cell(&event, "position"), "7");
        assert_eq!(cell(&event, "key_id"), "");
        assert_eq!(cell(&event, "actor_ip"), "::1");
    }

    #[test]
    fn accept_chooses_the_format() {
        let of = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, http::HeaderValue::from_static(accept));
            Format::of(&headers).ok()
        };
        assert_eq!(of("*/*"), Some(Format::Json));
        assert_eq!(of("text/event-stream"), Some(Format::ServerSentEvents));
        assert_eq!(of("image/png, application/x-ndjson;q=0.9"), Some(Format::NdJson));
        assert_eq!(of("text/csv"), Some(Format::Csv));
        assert_eq!(of("image/png"), None);
    }
}
