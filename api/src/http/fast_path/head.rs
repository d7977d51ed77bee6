//! The head of a plain request.

use http::{HeaderName, HeaderValue, header};
use keyledger_engine::value::time::Timestamp;

use crate::auth::caller::API_KEY_HEADER;
use crate::http::request_id::RequestId;
use crate::request::body::is_json;

/// The contents of a plain request's head.
pub(super) struct Head<'a> {
    pub(super) credential: (HeaderName, &'a [u8]),
    pub(super) request_id: Option<&'a [u8]>,
    pub(super) user_agent: Option<&'a [u8]>,
    /// Whether a header adds a condition to a change: `If-Match` or `Idempotency-Key`.
    pub(super) is_conditional: bool,
    pub(super) body_len: usize,
    pub(super) close: bool,
}

impl<'a> Head<'a> {
    /// Returns none when a required header is missing, a header is repeated, or a header changes how the
    /// request is read or answered.
    pub(super) fn of(headers: &[httparse::Header<'a>]) -> Option<Self> {
        let (mut credential, mut request_id, mut body_len, mut is_json_body) = (None, None, None, None);
        let (mut user_agent, mut is_conditional, mut close) = (None, false, None);
        let mut host = None;
        for httparse::Header { name, value } in headers {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            // Comparing lengths first ends nearly all comparisons.
            match name.len() {
                4 if is("host") => set_once(&mut host, is_plain_host(value).then_some(())?)?,
                6 if is("expect") => return None,
                7 if is("upgrade") || is("trailer") => return None,
                8 if is("if-match") => is_conditional = true,
                9 if is("x-api-key") => set_once(&mut credential, (API_KEY_HEADER, *value))?,
                10 if is("connection") => set_once(&mut close, closes(value)?)?,
                10 if is("user-agent") => user_agent = user_agent.or(Some(*value)),
                12 if is("content-type") => set_once(&mut is_json_body, is_json(value))?,
                12 if is("x-request-id") => {
                    set_once(&mut request_id, RequestId::is_usable(value).then_some(*value)?)?;
                }
                13 if is("authorization") => set_once(&mut credential, (header::AUTHORIZATION, *value))?,
                14 if is("content-length") => set_once(&mut body_len, length(value)?)?,
                15 if is("idempotency-key") => is_conditional = true,
                17 if is("transfer-encoding") => return None,
                22 if is("keyledger-min-position") => return None,
                _ => {}
            }
        }
        if is_json_body != Some(true) || host.is_none() {
            return None;
        }
        let (credential, body_len) = (credential?, body_len?);
        Some(Self {
            credential,
            request_id,
            user_agent,
            is_conditional,
            body_len,
            close: close.unwrap_or_default(),
        })
    }

    /// The request's id: the client's, or a generated one.
    pub(super) fn request_id(&self, now: Timestamp) -> RequestId {
        let given = self.request_id.and_then(|id| HeaderValue::from_bytes(id).ok());
        given.map_or_else(|| RequestId::draw_at(now), RequestId::given)
    }
}

/// Whether a `Host` value is certainly a name or an address.
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

/// Whether `Connection` asks to close the connection; none for other options (RFC 9110 §7.6.1).
fn closes(value: &[u8]) -> Option<bool> {
    if value.eq_ignore_ascii_case(b"keep-alive") {
        Some(false)
    } else if value.eq_ignore_ascii_case(b"close") {
        Some(true)
    } else {
        None
    }
}

/// Reads a `Content-Length` that consists of digits only (RFC 9110 §8.6).
fn length(value: &[u8]) -> Option<usize> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}
