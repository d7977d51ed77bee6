//! The headers that every answer has, whatever endpoint gave it. They are decided here once, so that an
//! endpoint has nothing to remember: an answer is about its caller, and kept by nobody, unless its endpoint
//! says otherwise.

use http::{HeaderMap, HeaderName, HeaderValue, header};

macro_rules! standing {
    ($($name:ident = $header:literal: $value:literal;)*) => {
        $(const $name: HeaderValue = HeaderValue::from_static($value);)*
        /// The headers of an answer in JSON, as lines.
        pub(crate) const LINES: &str = concat!($($header, ": ", $value, "\r\n"),*);
    };
}

standing! {
    NO_SNIFF = "x-content-type-options": "nosniff";
    NO_STORE = "cache-control": "no-store";
    // A cache that keeps an answer all the same gives it to nobody with another credential.
    CREDENTIALS = "vary": "Authorization, x-api-key, Cookie";
    // Nothing but a page has anything to load or to be framed for. Pages have a policy of their own.
    NOTHING = "content-security-policy": "default-src 'none'; frame-ancestors 'none'";
}

/// Browsers use TLS for this host and its subdomains for a year after each answer (RFC 6797).
const TLS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000; includeSubDomains");

/// The standing headers of one service.
#[derive(Debug, Clone)]
pub(crate) struct AnswerHeaders {
    /// Clients use TLS, here or at a proxy.
    uses_tls: bool,
    /// Browsers reach the service over TLS, so that they may be told to send cookies over nothing else.
    secures_cookies: bool,
    lines: String,
}

impl AnswerHeaders {
    /// Returns the headers of a service that clients reach at `public_url`, and that ends TLS itself if
    /// `is_tls`.
    #[must_use]
    pub(crate) fn of(public_url: &str, is_tls: bool) -> Self {
        let secures_cookies = public_url.starts_with("https://");
        let uses_tls = is_tls || secures_cookies;
        let mut lines = LINES.to_owned();
        if uses_tls {
            let name = header::STRICT_TRANSPORT_SECURITY;
            lines.push_str(&format!("{name}: {}\r\n", TLS_ONLY.to_str().unwrap_or_default()));
        }
        Self { uses_tls, secures_cookies, lines }
    }

    /// The headers of an answer in JSON about its caller, as lines.
    #[must_use]
    pub(crate) fn lines(&self) -> &[u8] {
        self.lines.as_bytes()
    }

    /// Adds the headers to an answer. What its endpoint decided stays.
    pub(crate) fn complete(&self, headers: &mut HeaderMap) {
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
        if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
            headers.insert(header::CONTENT_SECURITY_POLICY, NOTHING);
        }
        if *headers.entry(header::CACHE_CONTROL).or_insert(NO_STORE) == NO_STORE {
            headers.insert(header::VARY, CREDENTIALS);
        }
        if self.uses_tls {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, TLS_ONLY);
        }
        if self.secures_cookies && headers.contains_key(header::SET_COOKIE) {
            secure_cookies(headers);
        }
    }
}

/// Marks the cookies that an answer sets as ones to send over TLS only.
fn secure_cookies(headers: &mut HeaderMap) {
    const NAME: HeaderName = header::SET_COOKIE;
    const SECURE: &[u8] = b"; Secure";
    let set: Vec<HeaderValue> = headers.get_all(NAME).iter().cloned().collect();
    headers.remove(NAME);
    for cookie in set {
        let is_secure = cookie.as_bytes().windows(SECURE.len()).any(|part| part == SECURE);
        let secured = (!is_secure).then(|| HeaderValue::from_bytes(&[cookie.as_bytes(), SECURE].concat()));
        headers.append(NAME, secured.and_then(Result::ok).unwrap_or(cookie));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(public_url: &str, is_tls: bool, own: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in own {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        AnswerHeaders::of(public_url, is_tls).complete(&mut headers);
        headers
    }

    #[test]
    fn the_lines_are_the_headers() {
        for (public_url, is_tls) in [("http://x", false), ("http://x", true), ("https://x", false)] {
            let headers = completed(public_url, is_tls, &[]);
            let of = AnswerHeaders::of(public_url, is_tls);
            let lines = std::str::from_utf8(of.lines()).unwrap();
            let pairs: Vec<_> =
                lines.split_terminator("\r\n").map(|it| it.split_once(": ").unwrap()).collect();
            assert_eq!(pairs.len(), headers.len());
            assert!(pairs.iter().all(|(name, value)| headers[*name] == *value), "{lines}");
            assert_eq!(
                headers.contains_key(header::STRICT_TRANSPORT_SECURITY),
                is_tls || public_url.starts_with("https")
            );
        }
    }

    #[test]
    fn what_an_endpoint_decides_stays() {
        let public =
            completed("http://x", false, &[("cache-control", "public, max-age=1"), ("vary", "Accept")]);
        assert_eq!(public["cache-control"], "public, max-age=1");
        assert_eq!(public["vary"], "Accept");
        let page = completed("http://x", false, &[("content-security-policy", "default-src 'self'")]);
        assert_eq!(page["content-security-policy"], "default-src 'self'");
        assert_eq!(page["cache-control"], "no-store");
        assert_eq!(page["vary"], "Authorization, x-api-key, Cookie");
    }

    #[test]
    fn cookies_are_secure_where_browsers_use_tls() {
        let own = [("set-cookie", "a=1; Path=/"), ("set-cookie", "b=2; HttpOnly; Secure")];
        let set = |public_url| {
            let headers = completed(public_url, true, &own);
            headers.get_all("set-cookie").iter().map(|it| it.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(set("https://x"), ["a=1; Path=/; Secure", "b=2; HttpOnly; Secure"]);
        assert_eq!(set("http://x"), ["a=1; Path=/", "b=2; HttpOnly; Secure"], "a proxy speaks plain HTTP");
    }
}
