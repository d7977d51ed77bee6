//! The plain verification and the plain creation of a key, answered straight from a connection's bytes.
//!
//! A customer's API asks for a verification with each of its own requests, always in the same few words; and whoever
//! issues many keys says the same again and again too. A request that is said in just those words - `POST /v1/keys/verify
//! HTTP/1.1` or `POST /v1/keys HTTP/1.1`, a JSON body of a known length, a credential that is good - is answered here: read,
//! carried out and written without a header map, a router or a body stream in between. Anything else, however little it
//! differs, is left unread for the HTTP library; there is no rule here that does not stand elsewhere. Heads are taken apart
//! by the parser that the HTTP library uses too, so that both see the same bounds between requests.

mod answer;
mod head;

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use keyledger_projections::usage::Address;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use self::answer::Answer;
use self::head::Head;
use crate::caller::{Caller, admit};
use crate::connection::answered_in_time;
use crate::credential::LastCredential;
use crate::json_text::read_object;
use crate::origin;
use crate::request_id::RequestId;
use crate::routes::key_creation::{self, CreateBody};
use crate::routes::verify::{self, Occasion};
use crate::service::Service;

/// A request that is longer is left to the HTTP library.
const REQUEST_LEN_MAX: usize = 8 * 1024;
/// A request with more headers is left to the HTTP library.
const HEADERS_MAX: usize = 32;
/// A request that pauses for longer is left to the HTTP library, where somebody looks at the time.
const REST_TIME_MAX: Duration = Duration::from_secs(1);
/// Room for a verdict; it grows for keys with much metadata.
const VERDICT_LEN: usize = 1024;

/// How a connection goes on.
pub enum Next {
    /// It has ended.
    Closed,
    /// The HTTP library is to read on, these bytes first.
    HandOver(BytesMut),
}

/// Answers plain requests, made by `peer`, until something else comes, the other side closes, or `stop` resolves.
///
/// # Errors
/// When the connection breaks.
pub async fn answer_plain_requests<S>(
    stream: &mut S,
    service: &Arc<Service>,
    peer: IpAddr,
    stop: impl Future<Output = ()>,
) -> io::Result<Next>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stop = std::pin::pin!(stop);
    let mut conversation = Conversation::new(service, peer);
    let mut unread = BytesMut::with_capacity(REQUEST_LEN_MAX);
    loop {
        let (read_len, close) = match conversation.read(&unread) {
            Reading::Verified { read_len, close } => (read_len, close),
            Reading::Creation { read_len, close, creation } => {
                // In a box: connections that only verify need no room for it.
                Box::pin(conversation.create(*creation, &unread, close)).await;
                (read_len, close)
            }
            Reading::Incomplete if unread.len() < REQUEST_LEN_MAX => {
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
                continue;
            }
            Reading::Incomplete | Reading::Other => return Ok(Next::HandOver(unread)),
        };
        stream.write_all(conversation.answer.bytes()).await?;
        // TLS may hold some of it back otherwise.
        stream.flush().await?;
        unread.advance(read_len);
        if close {
            stream.shutdown().await?;
            return Ok(Next::Closed);
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

/// What the bytes read so far are.
enum Reading {
    /// The first `read_len` of them are a verification, and its answer is ready.
    Verified { read_len: usize, close: bool },
    /// The first `read_len` of them ask for a key.
    Creation { read_len: usize, close: bool, creation: Box<Creation> },
    /// They may become a plain request.
    Incomplete,
    /// They will not.
    Other,
}

/// A key that is asked for by somebody who may.
struct Creation {
    caller: Caller,
    body: CreateBody,
    /// Where the body is among the bytes read.
    body_at: Range<usize>,
}

/// The calls that are answered here.
#[derive(Clone, Copy)]
enum Call {
    Verification,
    Creation,
}

impl Call {
    /// What a request for each begins with.
    const STARTS: [(Self, &[u8]); 2] = [
        (Self::Verification, b"POST /v1/keys/verify HTTP/1.1\r\n"),
        (Self::Creation, b"POST /v1/keys HTTP/1.1\r\n"),
    ];

    /// The call that a request is for, and what follows its first line.
    fn of(unread: &[u8]) -> Option<(Self, &[u8])> {
        Self::STARTS.iter().find_map(|(call, start)| Some((*call, unread.strip_prefix(*start)?)))
    }

    /// Whether the bytes are the beginning of a first line.
    fn may_begin(unread: &[u8]) -> bool {
        Self::STARTS.iter().any(|(_, start)| start.starts_with(unread))
    }
}

/// What the requests of one connection share.
struct Conversation<'a> {
    service: &'a Arc<Service>,
    peer: IpAddr,
    /// The other side tells for whom it asks, and is believed.
    is_proxy: bool,
    credential: LastCredential,
    verdict: Vec<u8>,
    answer: Answer,
}

impl<'a> Conversation<'a> {
    fn new(service: &'a Arc<Service>, peer: IpAddr) -> Self {
        let peer = peer.to_canonical();
        Self {
            service,
            peer,
            is_proxy: service.trusted_proxies.trusts(peer),
            credential: LastCredential::default(),
            verdict: Vec::with_capacity(VERDICT_LEN),
            answer: Answer::default(),
        }
    }

    fn read(&mut self, unread: &[u8]) -> Reading {
        let Some((call, after_start)) = Call::of(unread) else {
            return if Call::may_begin(unread) { Reading::Incomplete } else { Reading::Other };
        };
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let (head_len, headers) = match httparse::parse_headers(after_start, &mut headers) {
            Ok(httparse::Status::Complete(head)) => head,
            Ok(httparse::Status::Partial) => return Reading::Incomplete,
            Err(_) => return Reading::Other,
        };
        let Some(head) = Head::of(headers) else { return Reading::Other };
        let body_at = unread.len() - after_start.len() + head_len;
        let read_len = body_at + head.body_len;
        if read_len > REQUEST_LEN_MAX {
            return Reading::Other;
        }
        let Some(body) = unread.get(body_at..read_len) else { return Reading::Incomplete };
        let from = if self.is_proxy { self.client(headers) } else { self.peer };
        let close = head.close;
        match call {
            Call::Verification => match self.verify(&head, body, from) {
                Some(()) => Reading::Verified { read_len, close },
                None => Reading::Other,
            },
            Call::Creation => match self.creation(&head, body, body_at..read_len, from) {
                Some(creation) => Reading::Creation { read_len, close, creation: Box::new(creation) },
                None => Reading::Other,
            },
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
        self.verdict.clear();
        let occasion = Occasion { now, from: Address::of(Some(from)) };
        let position = verify::write_plain_verdict(self.service, caller, body, occasion, &mut self.verdict)?;
        self.service.metrics.answered(StatusCode::OK);
        let drawn;
        let request_id = match head.request_id {
            Some(request_id) => request_id,
            None => {
                drawn = RequestId::draw();
                drawn.as_bytes()
            }
        };
        self.answer.set_verdict(position, request_id, &self.verdict, now, head.close);
        Some(())
    }

    /// What is to be created; none when the caller may not, or the request is said in other words.
    fn creation(
        &mut self,
        head: &Head<'_>,
        body: &[u8],
        body_at: Range<usize>,
        from: IpAddr,
    ) -> Option<Creation> {
        if head.is_conditional {
            return None;
        }
        let (name, value) = &head.credential;
        let principal = self.credential.authenticate(self.service, name, value, self.service.now())?;
        admit(principal, &Method::POST, key_creation::PATH).ok()?;
        let body = read_object(body).ok()?;
        let user_agent = head.user_agent.and_then(|value| HeaderValue::from_bytes(value).ok());
        let actor = origin::actor_at(principal.kind, &principal.id, Some(from), user_agent.as_ref());
        let caller = Caller { principal: Arc::clone(principal), actor, request_id: head.request_id() };
        Some(Creation { caller, body, body_at })
    }

    /// Creates a key and writes the answer, whatever it is: what the ledger was asked for is not asked for again.
    async fn create(&mut self, creation: Creation, unread: &[u8], close: bool) {
        let Creation { caller, body, body_at } = creation;
        // The headers that would matter are not there.
        let headers = HeaderMap::new();
        let bytes = unread.get(body_at).unwrap_or_default();
        let creating = key_creation::answer(self.service, &caller, &headers, &body, bytes);
        let (method, route) = (&Method::POST, Some(key_creation::PATH));
        let response = answered_in_time(self.service, method, route, &caller.request_id, creating).await;
        self.answer.set_response(response, self.service.now(), close).await;
    }
}
