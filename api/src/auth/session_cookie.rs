//! The cookie of portal and console sessions, and the protection against requests that other sites' pages
//! send with it.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use keyledger_engine::crypto::constant_time;
use keyledger_engine::crypto::sha256::Sha256;

/// The header with the CSRF token, which only pages of this service can read.
pub(crate) const CSRF_HEADER: HeaderName = HeaderName::from_static("x-csrf-token");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const PLAIN_NAME: &str = "keyledger_session";
/// Browsers accept a cookie with this prefix only over TLS, for this host alone, and for all its paths.
const SECURE_NAME: &str = "__Host-keyledger_session";

/// The session cookie of this service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionCookie {
    /// Whether browsers reach the service over TLS.
    pub secure: bool,
}

impl SessionCookie {
    /// Returns the cookie of a service that clients reach at `public_url`.
    #[must_use]
    pub(crate) fn of(public_url: &str) -> Self {
        Self { secure: public_url.starts_with("https://") }
    }

    const fn name(self) -> &'static str {
        if self.secure { SECURE_NAME } else { PLAIN_NAME }
    }

    /// Returns the session secret of a request.
    #[must_use]
    pub(crate) fn read(self, headers: &HeaderMap) -> Option<&str> {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.name()).map(|(_, value)| value)
    }

    /// Returns the `Set-Cookie` value that stores the secret for `seconds`; zero removes it. Scripts cannot
    /// read the cookie, and browsers do not send it with requests from other sites.
    #[must_use]
    pub(crate) fn set(self, secret: &str, seconds: u32) -> Option<HeaderValue> {
        let secure = if self.secure { "; Secure" } else { "" };
        let text =
            format!("{}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", self.name());
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Derives a session's CSRF token. It reveals nothing about the session's secret.
#[must_use]
pub(crate) fn csrf_token(secret: &str) -> String {
    let digest = Sha256::new().chain_update(b"keyledger csrf token ").chain_update(secret).finalize();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Checks a request with a session cookie: it must change nothing, or come from a page of this service.
///
/// # Errors
/// `csrf_failed`.
pub(crate) fn check_csrf(method: &Method, headers: &HeaderMap, secret: &str) -> Result<(), Problem> {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    check_same_origin(headers)?;
    check_csrf_token(headers.get(CSRF_HEADER).map_or(&b""[..], HeaderValue::as_bytes), secret)
}

/// Checks that a CSRF token belongs to a session's secret.
///
/// # Errors
/// `csrf_failed`.
pub(crate) fn check_csrf_token(shown: &[u8], secret: &str) -> Result<(), Problem> {
    if constant_time::equal(shown, csrf_token(secret).as_bytes()) {
        return Ok(());
    }
    Err(Problem::of(Code::CsrfFailed))
}

/// Checks that the browser does not mark the request as another site's. Browsers that reach the service
/// without TLS send `Origin` only.
///
/// # Errors
/// `csrf_failed`.
pub(crate) fn check_same_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let is_ours = match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
        Some(site) => matches!(site, b"same-origin" | b"none"),
        None => headers.get(header::ORIGIN).is_none_or(|origin| {
            let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            origin.is_some_and(|(_, authority)| host == Some(authority))
        }),
    };
    if is_ours { Ok(()) } else { Err(Problem::of(Code::CsrfFailed)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_comes_back_as_it_was_set() {
        for public_url in ["https://keys.example", "http://127.0.0.1:7070"] {
            let cookie = SessionCookie::of(public_url);
            let set = cookie.set("klsession_abc", 60).unwrap();
            let set = set.to_str().unwrap();
            assert!(set.contains("; HttpOnly; SameSite=Strict"), "{set}");
            assert_eq!(set.contains("; Secure"), public_url.starts_with("https"), "{set}");
            let pair = set.split(';').next().unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, format!("theme=dark; {pair}; x=y").parse().unwrap());
            assert_eq!(cookie.read(&headers), Some("klsession_abc"));
        }
        assert_eq!(SessionCookie::of("http://x").read(&HeaderMap::new()), None);
    }

    #[test]
    fn a_change_needs_the_token_and_a_page_of_this_service() {
        let token = csrf_token("klsession_abc");
        assert_ne!(token, csrf_token("klsession_abd"));
        let check = |method: Method, token: Option<&str>, site: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(token) = token {
                headers.insert(CSRF_HEADER, token.parse().unwrap());
            }
            if let Some(site) = site {
                headers.insert(SEC_FETCH_SITE, site.parse().unwrap());
            }
            check_csrf(&method, &headers, "klsession_abc").is_ok()
        };
        assert!(check(Method::GET, None, Some("cross-site")));
        assert!(check(Method::POST, Some(&token), None));
        assert!(check(Method::DELETE, Some(&token), Some("same-origin")));
        assert!(!check(Method::POST, None, Some("same-origin")));
        assert!(!check(Method::POST, Some("0"), None));
        assert!(!check(Method::POST, Some(&token), Some("cross-site")));
        assert!(!check(Method::PATCH, Some(&token), Some("same-site")));
    }

    #[test]
    fn a_browser_that_sends_only_the_origin_is_believed() {
        let check = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "keys.example:7070".parse().unwrap());
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            check_same_origin(&headers).is_ok()
        };
        assert!(check("http://keys.example:7070"));
        assert!(!check("http://keys.example"));
        assert!(!check("https://evil.example"));
        assert!(!check("null"));
    }
}
