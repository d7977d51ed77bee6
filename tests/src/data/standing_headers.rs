//! The headers that every answer of the service must have, checked on every answer of every test.

/// Checks the headers of an answer, given as a look-up by lower-case name.
///
/// # Panics
/// When one is missing, or the answer may be kept by a cache that does not tell callers apart.
#[track_caller]
pub fn check<'a>(header: impl Fn(&str) -> Option<&'a str>) {
    // Answers of other programs, such as a gateway's own, have no request id.
    if header("x-request-id").is_none() {
        return;
    }
    assert_eq!(header("x-content-type-options"), Some("nosniff"));
    let policy = header("content-security-policy").unwrap_or_default();
    assert!(
        policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    match header("cache-control") {
        Some("no-store") => assert_eq!(header("vary"), Some("Authorization, x-api-key, Cookie")),
        // The same for every caller.
        Some("no-cache") => {}
        Some(public) => assert!(public.starts_with("public, max-age="), "{public}"),
        None => panic!("an answer without cache-control"),
    }
}
