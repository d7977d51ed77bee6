//! The name of a request: the caller's own `X-Request-Id`, or one drawn here.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use ulid::Ulid;

/// Carries it in and out.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Longer ones of the caller's are not taken over.
const LEN_MAX: usize = 128;

/// A request's id.
#[derive(Debug, Clone, Default)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Takes the caller's, if it is 1 to 128 visible ASCII characters, or draws one.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(HEADER).and_then(|value| value.to_str().ok());
        let usable =
            |id: &&str| (1..=LEN_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        match given.filter(usable) {
            Some(id) => Self(id.into()),
            None => Self(draw().into()),
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as a header's value.
    #[must_use]
    pub fn to_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
    }
}

fn draw() -> String {
    let millis =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_millis());
    let id = Ulid::from_parts(u64::try_from(millis).unwrap_or(0), rand::random());
    let mut buffer = [0; ulid::ULID_LEN];
    format!("req_{}", id.array_to_str(&mut buffer))
}
