//! The fast path: plain verifications and plain creations of keys, answered straight from a connection's
//! bytes (docs/decisions/fast-path.md).
//!
//! A customer's API sends a verification with each of its own requests, always in the same form, and a client
//! that issues many keys repeats itself too. A request in exactly that form (`POST /v1/keys/verify HTTP/1.1`
//! or `POST /v1/keys HTTP/1.1`, a JSON body of a known length, a valid credential) is read, executed and
//! answered here, without a header map, a router or a body stream. Any other request, however small the
//! difference, is left unread for hyper. No rule lives here only. Heads are parsed with httparse, hyper's own
//! parser, so that both paths see the same boundaries between requests.

mod answer;
mod head;
mod unanswered;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::IntoResponse;
use bytes::{Buf, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use keyledger_engine::domain::key::Key;
use keyledger_engine::ledger::{self, Committed, Request};
use keyledger_engine::value::token::{TOKEN_LEN_MAX, Token};
use keyledger_projections::beside_the_log::usage::Address;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroize;

use self::answer::Answer;
use self::head::Head;
use self::unanswered::{LeftToHyper, Refusal, Unanswered, refused};
use crate::admission::class::Class;
use crate::admission::in_flight::InFlight;
use crate::admission::permit::Permit;
use crate::answer::problem::Problem;
use crate::auth::caller::{Caller, admit};
use crate::auth::last_credential::LastCredential;
use crate::auth::origin;
use crate::http::completion::{REQUEST_TIME_MAX, TimeLimit, finish, note_answer};
use crate::http::request_id::RequestId;
use crate::request::execution::Outcome;
use crate::request::json_text::read_plain_object;
use crate::routes::keys::create::{self, Asked, CreateBody, for_body};
use crate::routes::keys::issuing::creation;
use crate::routes::keys::verify::{self, Occasion};
use crate::routes::keys::view::KeyWithToken;
use crate::service::Service;

/// A longer request is left to hyper, in bytes.
const REQUEST_LEN_MAX: usize = 8 * 1024;
/// A request with more headers is left to hyper.
const HEADERS_MAX: usize = 32;
/// A request that arrives with a longer pause is left to hyper, where the idle timer covers it.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Initial capacity for the body of an answer; it grows for keys with much metadata.
const BODY_LEN: usize = 1024;

/// How a connection continues.
pub(crate) enum Next {
    /// It is closed.
    Closed,
    /// hyper takes over, and reads these bytes first.
    HandOver(BytesMut),
}

/// Answers plain requests from `peer` until a different request arrives, the client closes the connection, or
/// `stop` resolves.
///
/// # Errors
/// When the connection breaks.
pub(crate) async fn answer_plain_requests<S>(
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
        let (read_len, close, shows_token) = match conversation.read(&unread) {
            Reading::Verified { read_len, close } => (read_len, close, false),
            Reading::Creation { read_len, close, creation } => {
                conversation.create(creation, close).await;
                (read_len, close, true)
            }
            Reading::Refused { read_len, close, refusal } => {
                conversation.refuse(refusal, close).await;
                (read_len, close, false)
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
        // TLS may buffer a part of the answer otherwise.
        stream.flush().await?;
        if shows_token {
            conversation.wipe();
        }
        unread.advance(read_len);
        if close {
            stream.shutdown().await?;
            return Ok(Next::Closed);
        }
    }
}

/// Reads more bytes. Returns none when the next part of an incomplete request takes longer than
/// [`PAUSE_MAX`].
async fn read_more<S: AsyncRead + Unpin>(stream: &mut S, unread: &mut BytesMut) -> io::Result<Option<usize>> {
    if unread.is_empty() {
        return stream.read_buf(unread).await.map(Some);
    }
    tokio::time::timeout(PAUSE_MAX, stream.read_buf(unread)).await.ok().transpose()
}

/// What the unread bytes are.
enum Reading {
    /// The first `read_len` bytes are a verification, and its answer is ready.
    Verified { read_len: usize, close: bool },
    /// The first `read_len` bytes create a key.
    Creation { read_len: usize, close: bool, creation: Creation },
    /// The first `read_len` bytes are a request that exceeds a limit.
    Refused { read_len: usize, close: bool, refusal: Box<Refusal> },
    /// The beginning of a request that may be a plain one.
    Incomplete,
    /// No plain request.
    Other,
}

/// A creation that was submitted to the ledger.
struct Creation {
    submitted: Result<InFlight, ledger::Error>,
    token: Token,
    by_preset: bool,
    request_id: RequestId,
    started: Instant,
}

/// The endpoints that are answered here.
#[derive(Clone, Copy)]
enum Endpoint {
    Verification,
    Creation,
}

impl Endpoint {
    /// The request line of each.
    const STARTS: [(Self, &[u8]); 2] = [
        (Self::Verification, b"POST /v1/keys/verify HTTP/1.1\r\n"),
        (Self::Creation, b"POST /v1/keys HTTP/1.1\r\n"),
    ];

    /// Returns the endpoint of a request, and the bytes after its request line.
    fn of(unread: &[u8]) -> Option<(Self, &[u8])> {
        Self::STARTS.iter().find_map(|(endpoint, start)| Some((*endpoint, unread.strip_prefix(*start)?)))
    }

    /// Whether the bytes are the beginning of a request line.
    fn may_begin(unread: &[u8]) -> bool {
        Self::STARTS.iter().any(|(_, start)| start.starts_with(unread))
    }
}

/// The state that the requests of one connection share.
struct Conversation<'a> {
    service: &'a Arc<Service>,
    peer: IpAddr,
    /// The peer is a trusted proxy that forwards the client's address.
    is_proxy: bool,
    credential: LastCredential,
    time_limit: TimeLimit,
    /// The body of the current answer.
    json: Vec<u8>,
    /// The length from the start of the token in the body to the end of the body, which is also the end of
    /// the answer.
    token_to_end: Option<usize>,
    answer: Answer<'a>,
}

impl<'a> Conversation<'a> {
    fn new(service: &'a Arc<Service>, peer: IpAddr) -> Self {
        let peer = peer.to_canonical();
        Self {
            service,
            peer,
            is_proxy: service.trusted_proxies.trusts(peer),
            credential: LastCredential::default(),
            time_limit: TimeLimit::default(),
            json: Vec::with_capacity(BODY_LEN),
            token_to_end: None,
            answer: Answer::with(&service.answer_headers),
        }
    }

    /// Zeroizes the token that the last answer contains.
    fn wipe(&mut self) {
        let Some(len_to_end) = self.token_to_end.take() else { return };
        for bytes in [self.json.as_mut_slice(), self.answer.bytes_mut()] {
            let start = bytes.len().saturating_sub(len_to_end);
            let token = bytes.iter_mut().skip(start).take(TOKEN_LEN_MAX);
            token.for_each(Zeroize::zeroize);
        }
    }

    fn read(&mut self, unread: &[u8]) -> Reading {
        if self.service.inconsistency.is_refused() {
            return Reading::Other;
        }
        let Some((endpoint, after_start)) = Endpoint::of(unread) else {
            return if Endpoint::may_begin(unread) { Reading::Incomplete } else { Reading::Other };
        };
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let (head_len, headers) = match httparse::parse_headers(after_start, &mut headers) {
            Ok(httparse::Status::Complete(head)) => head,
            Ok(httparse::Status::Partial) => return Reading::Incomplete,
            Err(_) => return Reading::Other,
        };
        let Some(head) = Head::of(headers) else { return Reading::Other };
        let body_at = unread.len() - after_start.len() + head_len;
        let read_len = body_at.checked_add(head.body_len).filter(|len| *len <= REQUEST_LEN_MAX);
        let Some(read_len) = read_len else { return Reading::Other };
        let Some(body) = unread.get(body_at..read_len) else { return Reading::Incomplete };
        let from = if self.is_proxy { self.client(headers) } else { self.peer };
        let close = head.close;
        match endpoint {
            Endpoint::Verification => match self.verify(&head, body, from) {
                Ok(()) => Reading::Verified { read_len, close },
                Err(Unanswered::Refused(refusal)) => Reading::Refused { read_len, close, refusal },
                Err(LeftToHyper) => Reading::Other,
            },
            Endpoint::Creation => match self.submit_creation(&head, body, from) {
                Ok(creation) => Reading::Creation { read_len, close, creation },
                Err(Unanswered::Refused(refusal)) => Reading::Refused { read_len, close, refusal },
                Err(LeftToHyper) => Reading::Other,
            },
        }
    }

    /// The address of the client behind a trusted proxy.
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

    /// Writes the answer to a verification.
    fn verify(&mut self, head: &Head<'_>, body: &[u8], from: IpAddr) -> Result<(), Unanswered> {
        let (name, value) = &head.credential;
        let now = self.service.now();
        let caller = self.credential.authenticate(self.service, name, value, now, from).ok_or(LeftToHyper)?;
        self.service
            .rate_limits
            .count_tokens(caller, 1)
            .map_err(|problem| refused(problem, verify::PATH, head, now))?;
        self.json.clear();
        let occasion = Occasion { now, from: Address::of(Some(from)) };
        let position = verify::write_plain_verdict(self.service, caller, body, occasion, &mut self.json)
            .ok_or(LeftToHyper)?;
        self.service.metrics.answered(StatusCode::OK);
        let drawn;
        let request_id = match head.request_id {
            Some(request_id) => request_id,
            None => {
                drawn = RequestId::draw_at(now);
                drawn.as_bytes()
            }
        };
        self.answer.set_verdict(position, request_id, &self.json, now, head.close);
        Ok(())
    }

    /// Submits a creation to the ledger. One that the caller may not ask for, or that is invalid, is left to
    /// hyper.
    fn submit_creation(
        &mut self,
        head: &Head<'_>,
        body: &[u8],
        from: IpAddr,
    ) -> Result<Creation, Unanswered> {
        if head.is_conditional {
            return Err(LeftToHyper);
        }
        let (started, now) = (Instant::now(), self.service.now());
        let (name, value) = &head.credential;
        let service = self.service;
        let principal = self.credential.authenticate(service, name, value, now, from).ok_or(LeftToHyper)?;
        let refused = |problem| refused(problem, create::PATH, head, now);
        let class = Class::of(&Method::POST, create::PATH);
        let counted = service.rate_limits.count(principal, class, Some(from)).map_err(refused)?;
        admit(principal, &Method::POST, create::PATH).map_err(|_| LeftToHyper)?;
        let body: CreateBody = read_plain_object(body).ok_or(LeftToHyper)?;
        let user_agent = head.user_agent.and_then(|value| HeaderValue::from_bytes(value).ok());
        let actor = origin::actor_at(principal.kind, &principal.id, Some(from), user_agent.as_ref());
        let request_id = head.request_id(now);
        let caller = Caller { principal: Arc::clone(principal), actor, request_id, counted };
        let Asked { key, token, by_preset } =
            Asked::read(service, &caller, &body).map_err(|_| LeftToHyper)?;
        let command = creation(service, key);
        let permit = Permit::new(service, &caller, &command).map_err(refused)?;
        let Caller { actor, request_id, .. } = caller;
        let request =
            Request { request_id: Some(request_id.as_str().into()), ..Request::new(command, actor) };
        let submitted = service.submit(permit, request);
        Ok(Creation { submitted, token, by_preset, request_id, started })
    }

    /// Writes the answer to a request that exceeds a limit.
    async fn refuse(&mut self, refusal: Box<Refusal>, close: bool) {
        let Refusal { problem, path, request_id, started } = *refusal;
        let response = finish(self.service, problem.into_response(), &request_id).await;
        note_answer(self.service, (&Method::POST, path), response.status(), &request_id, started);
        self.answer.set_response(response, self.service.now(), close);
    }

    /// Waits for the ledger and writes the answer, whatever it is: handing the request over would submit it
    /// twice.
    async fn create(&mut self, creation: Creation, close: bool) {
        let Creation { submitted, token, by_preset, request_id, started } = creation;
        let answered = match submitted {
            Ok(submitted) => self.time_limit.wait(started + REQUEST_TIME_MAX, submitted.answer()).await,
            Err(error) => Ok((Err(error), None)),
        };
        let issued = answered.and_then(|(answered, _)| self.write_key(answered?, &token));
        let status = match issued.map_err(|problem| for_body(problem, by_preset)) {
            Ok(outcome) => {
                let now = self.service.now();
                self.answer.set_created(&outcome, request_id.as_bytes(), &self.json, now, close);
                StatusCode::CREATED
            }
            Err(problem) => {
                let response = finish(self.service, problem.into_response(), &request_id).await;
                let status = response.status();
                self.answer.set_response(response, self.service.now(), close);
                status
            }
        };
        note_answer(self.service, (&Method::POST, create::PATH), status, &request_id, started);
    }

    /// Writes the body of the answer to a creation, which contains the token.
    fn write_key(&mut self, committed: Committed, token: &Token) -> Result<Outcome<Key>, Problem> {
        let outcome = Outcome::of(committed)?;
        self.json.clear();
        serde_json::to_writer(&mut self.json, &KeyWithToken::of(&outcome, token))
            .map_err(|error| Problem::internal(&error))?;
        let token = token.expose().as_bytes();
        self.token_to_end =
            self.json.windows(token.len()).rposition(|it| it == token).map(|at| self.json.len() - at);
        Ok(outcome)
    }
}
