//! Preconditions of a request: `If-Match`, `If-None-Match` and `Keyledger-Min-Position`.

use std::time::Duration;

use http::{HeaderMap, HeaderName, header};
use keyledger_engine::domain::rejection::Rejection;
use keyledger_engine::value::position::{Position, Version};
use keyledger_projections::stored::runner::ProjectionHandle;
use tokio::sync::watch;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::request::entity_tag::Tags;

/// The header with the lowest log position that an answer may rest on.
pub(crate) const MIN_POSITION: HeaderName = HeaderName::from_static("keyledger-min-position");
/// The longest wait for that position.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The most versions that `If-Match` may list.
const VERSIONS_MAX: usize = 32;

/// Returns the versions that `If-Match` lists (RFC 9110 §13.1.1), or `None` if it allows any version. Weak
/// tags, and tags that are not versions, are skipped.
///
/// # Errors
/// `malformed_request`.
pub(crate) fn expected_versions(headers: &HeaderMap) -> Result<Option<Vec<Version>>, Problem> {
    let tags = Tags::read(headers, &header::IF_MATCH).map_err(|_| {
        let detail =
            "If-Match must be the ETag of the object, such as \"3\", several with commas between, or *";
        Problem::new(Code::MalformedRequest, detail)
    })?;
    let Some(Tags::These(tags)) = tags else { return Ok(None) };
    let strong = tags.iter().filter(|tag| !tag.is_weak);
    let versions: Vec<Version> = strong.filter_map(|tag| version_of(&tag.text)).collect();
    if versions.len() > VERSIONS_MAX {
        let detail = format!("If-Match may name at most {VERSIONS_MAX} versions");
        return Err(Problem::new(Code::MalformedRequest, detail));
    }
    Ok(Some(versions))
}

/// Returns the problem of an object whose version `If-Match` does not list.
#[must_use]
pub(crate) fn version_conflict(expected: &[Version], actual: Version) -> Problem {
    let detail = match expected {
        [] => format!(
            "the version is {actual}, and If-Match lists no version; send the object's ETag unchanged, such \
            as \"{actual}\", without W/"
        ),
        [expected] => return Problem::rejected(&Rejection::VersionConflict { expected: *expected, actual }),
        _ => format!(
            "the version is {actual}, which If-Match does not list; read the object again and decide whether \
            the change still applies"
        ),
    };
    Problem::new(Code::VersionConflict, detail)
}

/// Rejects a read of an object whose version `If-Match` does not list.
///
/// # Errors
/// `version_conflict`, `malformed_request`.
pub(crate) fn check_version(headers: &HeaderMap, version: Version) -> Result<(), Problem> {
    match expected_versions(headers)? {
        Some(expected) if !expected.contains(&version) => Err(version_conflict(&expected, version)),
        _ => Ok(()),
    }
}

/// Returns the version with this tag text.
fn version_of(opaque: &str) -> Option<Version> {
    let version = Version::new(opaque.parse().ok()?);
    (version.to_string() == opaque).then_some(version)
}

/// Returns whether `If-None-Match` lists this version (RFC 9110 §13.1.2). `If-Match` is checked first
/// (§13.2.2).
///
/// # Errors
/// See [`check_version`].
pub(crate) fn is_known(headers: &HeaderMap, version: Version) -> Result<bool, Problem> {
    check_version(headers, version)?;
    let tags = Tags::read(headers, &header::IF_NONE_MATCH).ok().flatten();
    Ok(tags.is_some_and(|tags| tags.name(&version.to_string())))
}

/// Returns the position in `Keyledger-Min-Position`, if the header is present.
///
/// # Errors
/// `malformed_request`.
pub(crate) fn min_position(headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let Some(value) = headers.get(MIN_POSITION) else { return Ok(None) };
    value.to_str().ok().and_then(|text| text.trim().parse().ok()).map(Some).ok_or_else(|| {
        Problem::new(Code::MalformedRequest, "Keyledger-Min-Position must be a position, such as 42")
    })
}

/// Waits until `progress` reaches the request's minimum position.
///
/// # Errors
/// `malformed_request`; `position_not_reached` after two seconds.
pub(crate) async fn reach_min_position(
    headers: &HeaderMap,
    progress: &watch::Receiver<Position>,
) -> Result<(), Problem> {
    match min_position(headers)? {
        Some(position) => reach(position, progress).await,
        None => Ok(()),
    }
}

/// Waits until readers of a projection see the request's minimum position.
///
/// # Errors
/// See [`reach_min_position`].
pub(crate) async fn reach_min_position_in(
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
pub(crate) async fn reach_in(position: Position, projection: &ProjectionHandle) -> Result<(), Problem> {
    in_time(position, projection.reach(position)).await
}

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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(tags: &'static str, expected: Option<Option<&[u32]>>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, HeaderValue::from_static(tags));
        let expected =
            expected.map(|it| it.map(|it| it.iter().copied().map(Version::new).collect::<Vec<_>>()));
        assert_eq!(expected_versions(&headers).ok(), expected, "{tags}");
    }

    #[test]
    fn if_match_names_versions() {
        check("\"3\"", Some(Some(&[3])));
        check("3", Some(Some(&[3])));
        check("\"1\", \"3\",W/\"4\"", Some(Some(&[1, 3])));
        check("*", Some(None));
        check("\"013\"", Some(Some(&[])));
        check("\"abc\"", Some(Some(&[])));
        check("W/\"1\"", Some(Some(&[])));
        check(", ,\"5\",", Some(Some(&[5])));
        check("\"a,b\", \"5\"", Some(Some(&[5])));
        for malformed in ["abc", "\"1", "", "-1", "*, \"1\""] {
            check(malformed, None);
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        let known = |tags: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(tags));
            is_known(&headers, Version::new(3)).unwrap()
        };
        assert!(known("\"3\"") && known("W/\"3\"") && known("\"1\", \"3\"") && known("*"));
        assert!(!known("\"13\"") && !known("\"a,3\"") && !known("") && !known("3, x"));
    }
}
