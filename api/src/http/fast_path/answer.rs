//! Answers as bytes.

use std::io::Write;
use std::time::{Duration, SystemTime};

use axum::response::Response;
use futures_util::FutureExt;
use http::{StatusCode, header};
use keyledger_engine::domain::key::Key;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;

use crate::answer::reply::POSITION;
use crate::http::answer_headers::AnswerHeaders;
use crate::http::request_id;
use crate::request::execution::Outcome;
use crate::routes::keys::create;

/// A buffer for the answers of one connection, one after the other.
pub(super) struct Answer<'a> {
    /// The lines that every answer in JSON has.
    standing: &'a [u8],
    bytes: Vec<u8>,
    date: Date,
}

impl<'a> Answer<'a> {
    pub(super) fn with(headers: &'a AnswerHeaders) -> Self {
        Self { standing: headers.lines(), bytes: Vec::new(), date: Date::default() }
    }

    /// The answer's bytes, to zeroize a token in them.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Sets the answer to a verification.
    pub(super) fn set_verdict(
        &mut self,
        position: Position,
        request_id: &[u8],
        body: &[u8],
        now: Timestamp,
        close: bool,
    ) {
        let bytes = &mut self.bytes;
        bytes.clear();
        bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n");
        bytes.extend_from_slice(self.standing);
        // Writing to memory cannot fail.
        let _ = write!(bytes, "{POSITION}: {position}\r\n{}: ", request_id::HEADER);
        bytes.extend_from_slice(request_id);
        bytes.extend_from_slice(b"\r\n");
        self.end(body, now, close);
    }

    /// Sets the answer to the creation of a key.
    pub(super) fn set_created(
        &mut self,
        outcome: &Outcome<Key>,
        request_id: &[u8],
        body: &[u8],
        now: Timestamp,
        close: bool,
    ) {
        let Outcome { object, version, position, .. } = outcome;
        let bytes = &mut self.bytes;
        bytes.clear();
        let _ = write!(
            bytes,
            "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\n{POSITION}: {position}\r\n\
             etag: \"{version}\"\r\nlocation: {}/{}\r\n{}: ",
            create::PATH,
            object.id,
            request_id::HEADER
        );
        bytes.extend_from_slice(request_id);
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.standing);
        self.end(body, now, close);
    }

    /// Sets any other answer.
    pub(super) fn set_response(&mut self, response: Response, now: Timestamp, close: bool) {
        let (parts, body) = response.into_parts();
        // The bodies of problems are in memory, so they are ready at once and do not fail.
        let (status, body) = match axum::body::to_bytes(body, usize::MAX).now_or_never() {
            Some(Ok(body)) => (parts.status, body),
            Some(Err(_)) | None => (StatusCode::INTERNAL_SERVER_ERROR, bytes::Bytes::new()),
        };
        let bytes = &mut self.bytes;
        bytes.clear();
        let reason = status.canonical_reason().unwrap_or_default();
        let _ = write!(bytes, "HTTP/1.1 {} {reason}\r\n", status.as_str());
        for (name, value) in &parts.headers {
            if name != header::CONTENT_LENGTH {
                for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                    bytes.extend_from_slice(part);
                }
            }
        }
        self.end(&body, now, close);
    }

    fn end(&mut self, body: &[u8], now: Timestamp, close: bool) {
        let bytes = &mut self.bytes;
        let _ = write!(bytes, "content-length: {}\r\ndate: ", body.len());
        bytes.extend_from_slice(self.date.at(now));
        bytes.extend_from_slice(if close { b"\r\nconnection: close\r\n\r\n" } else { b"\r\n\r\n" });
        bytes.extend_from_slice(body);
    }
}

/// The `Date` of an answer (RFC 9110 §6.6.1), formatted once a second.
#[derive(Default)]
struct Date {
    second: Option<i64>,
    text: String,
}

impl Date {
    fn at(&mut self, now: Timestamp) -> &[u8] {
        let second = now.millis().div_euclid(1_000);
        if self.second != Some(second) {
            let since_epoch = Duration::from_secs(second.try_into().unwrap_or(0));
            self.text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since_epoch);
            self.second = Some(second);
        }
        self.text.as_bytes()
    }
}
