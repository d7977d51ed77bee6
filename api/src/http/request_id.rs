//! The id of a request: the client's own `X-Request-Id`, or a generated one.

use http::{HeaderMap, HeaderName, HeaderValue};
use keyledger_engine::value::time::{Clock, SystemClock, Timestamp};
use ulid::Ulid;

/// The header that carries the id in requests and answers.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// A longer id from a client is ignored, in bytes.
const LEN_MAX: usize = 128;

/// A request's id. It is stored as a header value, the form that every answer needs.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// Returns the client's id if it is 1 to 128 visible ASCII characters, or generates one.
    #[must_use]
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let usable = |id: &&HeaderValue| Self::is_usable(id.as_bytes());
        headers.get(HEADER).filter(usable).map_or_else(Self::draw, |id| Self(id.clone()))
    }

    /// Wraps a client's id, which must be [usable](Self::is_usable).
    pub(crate) const fn given(id: HeaderValue) -> Self {
        Self(id)
    }

    /// Whether a client's id is accepted.
    #[must_use]
    pub(crate) fn is_usable(id: &[u8]) -> bool {
        (1..=LEN_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
    }

    /// Generates an id.
    #[must_use]
    pub(crate) fn draw() -> Self {
        Self::draw_at(SystemClock.now())
    }

    /// Generates an id that contains the time `now`.
    #[must_use]
    pub(crate) fn draw_at(now: Timestamp) -> Self {
        let millis = u64::try_from(now.millis()).unwrap_or(0);
        let mut text = *b"req_00000000000000000000000000";
        if let Some(digits) = text.last_chunk_mut() {
            Ulid::from_parts(millis, rand::random()).array_to_str(digits);
        }
        Self(HeaderValue::from_bytes(&text).unwrap_or(UNNAMED))
    }

    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    #[must_use]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    #[must_use]
    pub(crate) fn to_header(&self) -> HeaderValue {
        self.0.clone()
    }
}

const UNNAMED: HeaderValue = HeaderValue::from_static("req_unnamed");

/// The id for a request that was not given one.
impl Default for RequestId {
    fn default() -> Self {
        Self(UNNAMED)
    }
}
