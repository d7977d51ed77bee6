//! The name of a request: the caller's own `X-Request-Id`, or one drawn here.

use http::{HeaderMap, HeaderName, HeaderValue};
use keyledger_engine::value::time::{Clock, SystemClock, Timestamp};
use ulid::Ulid;

/// Carries it in and out.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Longer ones of the caller's are not taken over.
const LEN_MAX: usize = 128;

/// A request's id. It is kept as the header's value, which is what every answer needs.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// Takes the caller's, if it is 1 to 128 visible ASCII characters, or draws one.
    #[must_use]
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let usable = |id: &&HeaderValue| Self::is_usable(id.as_bytes());
        headers.get(HEADER).filter(usable).map_or_else(Self::draw, |id| Self(id.clone()))
    }

    /// The caller's, which must be [usable](Self::is_usable).
    pub(crate) const fn given(id: HeaderValue) -> Self {
        Self(id)
    }

    /// Whether a caller's id is taken over.
    #[must_use]
    pub(crate) fn is_usable(id: &[u8]) -> bool {
        (1..=LEN_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
    }

    /// Draws one.
    #[must_use]
    pub(crate) fn draw() -> Self {
        Self::draw_at(SystemClock.now())
    }

    /// Draws one that tells `now`.
    #[must_use]
    pub(crate) fn draw_at(now: Timestamp) -> Self {
        let millis = u64::try_from(now.millis()).unwrap_or(0);
        let mut text = *b"req_00000000000000000000000000";
        if let Some(digits) = text.last_chunk_mut() {
            Ulid::from_parts(millis, rand::random()).array_to_str(digits);
        }
        Self(HeaderValue::from_bytes(&text).unwrap_or(UNNAMED))
    }

    /// The id as text.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The id as bytes.
    #[must_use]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The id as a header's value.
    #[must_use]
    pub(crate) fn to_header(&self) -> HeaderValue {
        self.0.clone()
    }
}

const UNNAMED: HeaderValue = HeaderValue::from_static("req_unnamed");

/// The name of a request that has none.
impl Default for RequestId {
    fn default() -> Self {
        Self(UNNAMED)
    }
}
