//! Positions and versions that a request names: `If-Match`, `Keyledger-Min-Position`.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use keyledger_engine::position::{Position, Version};
use keyledger_projections::runner::ProjectionHandle;
use tokio::sync::watch;

use crate::problem::{Code, Problem};

/// Carries the position that an answer rests on.
pub const POSITION: HeaderName = HeaderName::from_static("keyledger-position");
/// Carries the position that an answer must at least rest on.
pub const MIN_POSITION: HeaderName = HeaderName::from_static("keyledger-min-position");
/// A request waits this long for its position.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The version that `If-Match` asks for (RFC 9110 §13.1.1); `None` for any.
///
/// # Errors
/// `malformed_request`.
pub fn expected_version(headers: &HeaderMap) -> Result<Option<Version>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or("").trim();
    if text == "*" {
        return Ok(None);
    }
    let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    bare.parse().map(|number| Some(Version::new(number))).map_err(|_| {
        Problem::new(Code::MalformedRequest, "If-Match must be the ETag of the object, such as \"3\", or *")
    })
}

/// The version as an `ETag`.
#[must_use]
pub fn etag(version: Version) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"0\""))
}

/// The position that `Keyledger-Min-Position` names.
///
/// # Errors
/// `malformed_request`.
pub fn min_position(headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let Some(value) = headers.get(MIN_POSITION) else { return Ok(None) };
    value.to_str().ok().and_then(|text| text.trim().parse().ok()).map(Some).ok_or_else(|| {
        Problem::new(Code::MalformedRequest, "Keyledger-Min-Position must be a position, such as 42")
    })
}

/// Waits until what `progress` follows has reached the position that the request names.
///
/// # Errors
/// `malformed_request`, `position_not_reached` after two seconds.
pub async fn reach_min_position(
    headers: &HeaderMap,
    progress: &watch::Receiver<Position>,
) -> Result<(), Problem> {
    match min_position(headers)? {
        Some(position) => reach(position, progress).await,
        None => Ok(()),
    }
}

/// Waits until readers of a projection see the position that the request names.
///
/// # Errors
/// As [`reach_min_position`].
pub async fn reach_min_position_in(
    headers: &HeaderMap,
    projection: &ProjectionHandle,
) -> Result<(), Problem> {
    match min_position(headers)? {
        Some(position) => reach_in(position, projection).await,
        None => Ok(()),
    }
}

/// Waits until readers of a projection see a position.
///
/// # Errors
/// `position_not_reached` after two seconds.
pub async fn reach_in(position: Position, projection: &ProjectionHandle) -> Result<(), Problem> {
    in_time(position, projection.reach(position)).await
}

/// Waits until what `progress` follows has reached a position.
async fn reach(position: Position, progress: &watch::Receiver<Position>) -> Result<(), Problem> {
    if *progress.borrow() >= position {
        return Ok(());
    }
    let mut progress = progress.clone();
    let reaching = async { progress.wait_for(|reached| *reached >= position).await.is_ok() };
    in_time(position, reaching).await
}

async fn in_time(position: Position, reaching: impl Future<Output = bool>) -> Result<(), Problem> {
    match tokio::time::timeout(WAIT_MAX, reaching).await {
        Ok(true) => Ok(()),
        _ => Err(Problem::new(
            Code::PositionNotReached,
            format!("position {position} was not reached within two seconds"),
        )),
    }
}

/// The position as a header's value.
#[must_use]
pub fn position_value(position: Position) -> HeaderValue {
    HeaderValue::from(position.get())
}
