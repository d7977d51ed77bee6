//! The plain verification, answered straight from a connection's bytes.
//!
//! A customer's API asks for a verification with each of its own requests, always in the same few words. A request that
//! is said in just those words - `POST /v1/keys/verify HTTP/1.1`, a JSON body of a known length, a credential that is
//! good - is answered here: read, judged and written without a task, a header map or a body stream in between. Anything
//! else, however little it differs, is left unread for the HTTP library, and so is every refusal; there is no rule here
//! that does not stand elsewhere. Heads are taken apart by the parser that the HTTP library uses too, so that both see
//! the same bounds between requests.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use bytes::{Buf, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use keyledger_engine::time::Timestamp;
use keyledger_projections::usage::Address;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::body::is_json;
use crate::caller::API_KEY_HEADER;
use crate::credential::LastCredential;
use crate::precondition::POSITION;
use crate::request_id::{self, RequestId};
use crate::routes::verify::{self, Occasion};
use crate::service::Service;

/// What a request must begin with to be answered here.
const START: &[u8] = b"POST /v1/keys/verify HTTP/1.1\r\n";
/// A request that is longer is left to the HTTP library.
const REQUEST_LEN_MAX: usize = 8 * 1024;
/// A request with more headers is left to the HTTP library.
const HEADERS_MAX: usize = 32;
/// A request that pauses for longer is left to the HTTP library, where somebody looks at the time.
const REST_TIME_MAX: Duration = Duration::from_secs(1);
/// Room for an answer; it grows for keys with much metadata.
const ANSWER_LEN: usize = 1024;

/// How a connection goes on.
pub enum Next {
    /// It has ended.
    Closed,
    /// The HTTP library is to read on, these bytes first.
    HandOver(BytesMut),
}

/// Answers plain verifications, asked for by `peer`, until something else comes, the other side closes, or `stop` resolves.
///
/// # Errors
/// When the connection breaks.
pub async fn answer_verifications<S>(
    stream: &mut S,
    service: &Service,
    peer: IpAddr,
    stop: impl Future<Output = ()>,
) -> io::Result<Next>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stop = std::pin::pin!(stop);
    let mut verifier = Verifier::new(service, peer);
    let mut unread = BytesMut::with_capacity(REQUEST_LEN_MAX);
    loop {
        match verifier.answer(&unread) {
            Answer::Ready { read_len, close } => {
                stream.write_all(&verifier.answer).await?;
                // TLS may hold some of it back otherwise.
                stream.flush().await?;
                unread.advance(read_len);
                if close {
                    stream.shutdown().await?;
                    return Ok(Next::Closed);
                }
                continue;
            }
            Answer::Incomplete if unread.len() < REQUEST_LEN_MAX => {}
            Answer::Incomplete | Answer::Other => return Ok(Next::HandOver(unread)),
        }
        unread.reserve(REQUEST_LEN_MAX - unread.len());
        tokio::select! {
            biased;
            read = read_more(stream, &mut unread) => match read? {
                Some(0) if unread.is_empty() => return Ok(Next::Closed),
                Some(0) | None => return Ok(Next::HandOver(unread)),
                Some(_) => {}
            },
            () = &mut stop => {
                return Ok(if unread.is_empty() { Next::Closed } else { Next::HandOver(unread) });
            }
        }
    }
}

/// Reads on; none when the rest of a request that has begun does not come soon.
async fn read_more<S: AsyncRead + Unpin>(stream: &mut S, unread: &mut BytesMut) -> io::Result<Option<usize>> {
    if unread.is_empty() {
        return stream.read_buf(unread).await.map(Some);
    }
    tokio::time::timeout(REST_TIME_MAX, stream.read_buf(unread)).await.ok().transpose()
}

/// What became of the bytes read so far.
enum Answer {
    /// The first `read_len` of them are a request whose answer is ready.
    Ready { read_len: usize, close: bool },
    /// They may become a plain verification.
    Incomplete,
    /// They will not.
    Other,
}

/// What the requests of one connection share.
struct Verifier<'a> {
    service: &'a Service,
    peer: IpAddr,
    /// The other side tells for whom it asks, and is believed.
    is_proxy: bool,
    credential: LastCredential,
    date: Date,
    body: Vec<u8>,
    answer: Vec<u8>,
}

impl<'a> Verifier<'a> {
    fn new(service: &'a Service, peer: IpAddr) -> Self {
        Self {
            service,
            peer,
            is_proxy: service.trusted_proxies.trusts(peer.to_canonical()),
            credential: LastCredential::default(),
            date: Date::default(),
            body: Vec::with_capacity(ANSWER_LEN),
            answer: Vec::with_capacity(ANSWER_LEN),
        }
    }

    fn answer(&mut self, unread: &[u8]) -> Answer {
        let Some(after_start) = unread.strip_prefix(START) else {
            return if START.starts_with(unread) { Answer::Incomplete } else { Answer::Other };
        };
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let (head_len, headers) = match httparse::parse_headers(after_start, &mut headers) {
            Ok(httparse::Status::Complete(head)) => head,
            Ok(httparse::Status::Partial) => return Answer::Incomplete,
            Err(_) => return Answer::Other,
        };
        let Some(head) = Head::of(headers) else { return Answer::Other };
        let read_len = START.len() + head_len + head.body_len;
        if read_len > REQUEST_LEN_MAX {
            return Answer::Other;
        }
        let Some(body) = unread.get(START.len() + head_len..read_len) else { return Answer::Incomplete };
        let from = if self.is_proxy { self.client(headers) } else { self.peer };
        match self.verify(&head, body, from) {
            Some(()) => Answer::Ready { read_len, close: head.close },
            None => Answer::Other,
        }
    }

    /// For whom a trusted proxy asks.
    fn client(&self, headers: &[httparse::Header<'_>]) -> IpAddr {
        let read = |header: &httparse::Header<'_>| {
            let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(header.value).ok()?))
        };
        let mut all = HeaderMap::new();
        for (name, value) in headers.iter().filter_map(read) {
            all.append(name, value);
        }
        self.service.trusted_proxies.client(self.peer, &all)
    }

    /// Writes the answer; none when the request is not to be answered with a verdict, or is said in other words.
    fn verify(&mut self, head: &Head<'_>, body: &[u8], from: IpAddr) -> Option<()> {
        let (name, value) = &head.credential;
        let now = self.service.now();
        let caller = self.credential.authenticate(self.service, name, value, now)?;
        self.body.clear();
        let occasion = Occasion { now, from: Address::of(Some(from)) };
        let position = verify::write_plain_verdict(self.service, caller, body, occasion, &mut self.body)?;
        self.service.metrics.answered(StatusCode::OK);
        let answer = &mut self.answer;
        answer.clear();
        answer.extend_from_slice(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-content-type-options: nosniff\r\n",
        );
        // Writing to memory does not fail.
        let _ = write!(answer, "{POSITION}: {position}\r\n{}: ", request_id::HEADER);
        match head.request_id {
            Some(request_id) => answer.extend_from_slice(request_id),
            None => answer.extend_from_slice(RequestId::draw().as_bytes()),
        }
        let _ = write!(answer, "\r\ncontent-length: {}\r\ndate: ", self.body.len());
        answer.extend_from_slice(self.date.at(now));
        answer.extend_from_slice(if head.close { b"\r\nconnection: close\r\n\r\n" } else { b"\r\n\r\n" });
        answer.extend_from_slice(&self.body);
        Some(())
    }
}

/// What the head of a plain verification says.
struct Head<'a> {
    credential: (HeaderName, &'a [u8]),
    request_id: Option<&'a [u8]>,
    body_len: usize,
    close: bool,
}

impl<'a> Head<'a> {
    /// None when a header is missing, there twice, or one that changes how a request is read or answered.
    fn of(headers: &[httparse::Header<'a>]) -> Option<Self> {
        let (mut credential, mut request_id, mut body_len, mut is_json_body) = (None, None, None, false);
        let mut host = None;
        let mut close = false;
        for httparse::Header { name, value } in headers {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            // By length first: nearly all comparisons end there.
            match name.len() {
                4 if is("host") => set_once(&mut host, is_plain_host(value).then_some(())?)?,
                6 if is("expect") => return None,
                7 if is("upgrade") || is("trailer") => return None,
                9 if is("x-api-key") => set_once(&mut credential, (API_KEY_HEADER, *value))?,
                10 if is("connection") => close = closes(value)?,
                12 if is("content-type") => is_json_body = is_json(value),
                12 if is("x-request-id") => {
                    set_once(&mut request_id, RequestId::is_usable(value).then_some(*value)?)?;
                }
                13 if is("authorization") => set_once(&mut credential, (header::AUTHORIZATION, *value))?,
                14 if is("content-length") => set_once(&mut body_len, length(value)?)?,
                17 if is("transfer-encoding") => return None,
                22 if is("keyledger-min-position") => return None,
                _ => {}
            }
        }
        if !is_json_body || host.is_none() {
            return None;
        }
        Some(Self { credential: credential?, request_id, body_len: body_len?, close })
    }
}

/// Whether a `Host` is without doubt a name or an address.
fn is_plain_host(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(byte))
}

fn set_once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    if place.is_some() {
        return None;
    }
    *place = Some(value);
    Some(())
}

/// Whether the other side wants the connection closed; none when it asks for something else (RFC 9110 §7.6.1).
fn closes(value: &[u8]) -> Option<bool> {
    if value.eq_ignore_ascii_case(b"keep-alive") {
        Some(false)
    } else if value.eq_ignore_ascii_case(b"close") {
        Some(true)
    } else {
        None
    }
}

/// A `Content-Length` of digits alone (RFC 9110 §8.6).
fn length(value: &[u8]) -> Option<usize> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The `Date` of an answer (RFC 9110 §6.6.1), made anew once a second.
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
