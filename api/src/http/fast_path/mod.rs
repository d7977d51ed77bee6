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
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::IntoResponse;
use bytes::{Buf, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use keyledger_engine::domain::key::Key;
use keyledger_engine::ledger::{self, Committed, Request, Submitted};
use keyledger_engine::value::token::{TOKEN_LEN_MAX, Token};
use keyledger_projections::beside_the_log::usage::Address;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroize;

use self::answer::Answer;
use self::head::Head;
use crate::answer::problem::Problem;
use crate::auth::caller::{Caller, admit};
use crate::auth::last_credential::LastCredential;
use crate::auth::origin;
use crate::http::connection::{REQUEST_TIME_MAX, TimeLimit, finish, note_answer};
use crate::http::request_id::RequestId;
use crate::request::execution::Outcome;
use crate::request::json_text::read_plain_object;
use crate::routes::keys::create::{self, Asked, CreateBody, for_body};
use crate::routes::keys::issuing::creation;
use crate::routes::keys::verify::{self, Occasion};
use crate::routes::keys::view::KeyWithToken;
use crate::service::Service;

/// A request that is longer is left to the HTTP library.
const REQUEST_LEN_MAX: usize = 8 * 1024;
/// A request with more headers is left to the HTTP library.
const HEADERS_MAX: usize = 32;
/// A request that pauses for longer is left to the HTTP library, where somebody looks at the time.
const REST_TIME_MAX: Duration = Duration::from_secs(1);
/// Room for the body of an answer; it grows for keys with much metadata.
const BODY_LEN: usize = 1024;

/// How a connection goes on.
pub(crate) enum Next {
    /// It has ended.
    Closed,
    /// The HTTP library is to read on, these bytes first.
    HandOver(BytesMut),
}

/// Answers plain requests, made by `peer`, until something else comes, the other side closes, or `stop` resolves.
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
    Creation { read_len: usize, close: bool, creation: Creation },
    /// They may become a plain request.
    Incomplete,
    /// They will not.
    Other,
}

/// A key that the ledger has been asked for.
struct Creation {
    submitted: Result<Submitted, ledger::Error>,
    token: Token,
    by_preset: bool,
    request_id: RequestId,
    started: Instant,
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
    time_limit: TimeLimit,
    /// The body of the answer.
    json: Vec<u8>,
    /// The bytes from the token that the body shows up to its end, which is the answer's too.
    token_to_end: Option<usize>,
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
            time_limit: TimeLimit::default(),
            json: Vec::with_capacity(BODY_LEN),
            token_to_end: None,
            answer: Answer::default(),
        }
    }

    /// Leaves nothing in memory of the token that the last answer shows.
    fn wipe(&mut self) {
        let Some(len_to_end) = self.token_to_end.take() else { return };
        for bytes in [self.json.as_mut_slice(), self.answer.bytes_mut()] {
            let start = bytes.len().saturating_sub(len_to_end);
            let token = bytes.iter_mut().skip(start).take(TOKEN_LEN_MAX);
            token.for_each(Zeroize::zeroize);
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
            Call::Creation => match self.ask_for_key(&head, body, from) {
                Some(creation) => Reading::Creation { read_len, close, creation },
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
        self.json.clear();
        let occasion = Occasion { now, from: Address::of(Some(from)) };
        let position = verify::write_plain_verdict(self.service, caller, body, occasion, &mut self.json)?;
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
        Some(())
    }

    /// Asks the ledger for a key; none when the caller may not, or the request is said in other words or not right.
    fn ask_for_key(&mut self, head: &Head<'_>, body: &[u8], from: IpAddr) -> Option<Creation> {
        if head.is_conditional {
            return None;
        }
        let (started, now) = (Instant::now(), self.service.now());
        let (name, value) = &head.credential;
        let principal = self.credential.authenticate(self.service, name, value, now)?;
        admit(principal, &Method::POST, create::PATH).ok()?;
        let body: CreateBody = read_plain_object(body)?;
        let user_agent = head.user_agent.and_then(|value| HeaderValue::from_bytes(value).ok());
        let actor = origin::actor_at(principal.kind, &principal.id, Some(from), user_agent.as_ref());
        let caller = Caller { principal: Arc::clone(principal), actor, request_id: head.request_id(now) };
        let Asked { key, token, by_preset } = Asked::read(self.service, &caller, &body).ok()?;
        let command = creation(self.service, key);
        let Caller { actor, request_id, .. } = caller;
        let request =
            Request { request_id: Some(request_id.as_str().into()), ..Request::new(command, actor) };
        let submitted = self.service.ledger.submit(request);
        Some(Creation { submitted, token, by_preset, request_id, started })
    }

    /// Waits for a key and writes the answer, whatever it is: what the ledger was asked for is not asked for again.
    async fn create(&mut self, creation: Creation, close: bool) {
        let Creation { submitted, token, by_preset, request_id, started } = creation;
        let answered = match submitted {
            Ok(submitted) => self.time_limit.wait(started + REQUEST_TIME_MAX, submitted.answer()).await,
            Err(error) => Ok(Err(error)),
        };
        let issued = answered.and_then(|answered| self.write_key(answered?, &token));
        let status = match issued.map_err(|problem| for_body(problem, by_preset)) {
            Ok(outcome) => {
                let now = self.service.now();
                self.answer.set_created(&outcome, request_id.as_bytes(), &self.json, now, close);
                StatusCode::CREATED
            }
            Err(problem) => {
                let response = finish(self.service, problem.into_response(), &request_id);
                let status = response.status();
                self.answer.set_response(response, self.service.now(), close);
                status
            }
        };
        note_answer(self.service, (&Method::POST, create::PATH), status, &request_id, started);
    }

    /// Writes the body of an answer that shows a key.
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
