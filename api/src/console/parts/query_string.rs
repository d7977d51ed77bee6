//! Console addresses: path segments, query strings, and which addresses are safe to redirect to.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but the unreserved characters of RFC 3986 §2.3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes a path segment or a query value.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// Returns `path` if it is a console path, so that forged forms and links cannot redirect elsewhere.
pub(crate) fn safe_path(path: &str) -> Option<&str> {
    let is_ours = path == "/console" || path.starts_with("/console/") || path.starts_with("/console?");
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    (is_ours && is_plain).then_some(path)
}

/// A query string as ordered name-value pairs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct QueryString(Vec<(String, String)>);

impl QueryString {
    /// Parses the query string of an address. Empty values count as absent.
    pub(crate) fn of(address: &str) -> Self {
        let query = address.split_once('?').map_or("", |(_, query)| query);
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        Self(pairs.filter(|(_, value)| !value.is_empty()).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    /// Returns a copy with `name` set to `value`, or removed if there is no value.
    #[must_use]
    pub(crate) fn with(&self, name: &str, value: Option<&str>) -> Self {
        let mut pairs = self.0.clone();
        pairs.retain(|(it, _)| it != name);
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            pairs.push((name.into(), value.into()));
        }
        Self(pairs)
    }

    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Appends the query string to a path.
    pub(crate) fn after(&self, path: &str) -> String {
        if self.0.is_empty() {
            return path.into();
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.0);
        format!("{path}?{}", query.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_changes_one_name_at_a_time() {
        let query = QueryString::of("/console/keys?q=a%26b&status=&sort=name");
        assert_eq!(query.get("q"), Some("a&b"));
        assert_eq!(query.get("status"), None, "an empty value counts as absent");
        assert_eq!(query.with("sort", None).after("/x"), "/x?q=a%26b");
        assert_eq!(query.with("q", None).with("sort", None).after("/x"), "/x");
        assert_eq!(encoded("a/b?c d"), "a%2Fb%3Fc%20d");
    }

    #[test]
    fn only_console_paths_are_safe() {
        for path in ["/console", "/console/keys?q=a", "/console?x"] {
            assert_eq!(safe_path(path), Some(path));
        }
        for path in [
            "",
            "//evil.example",
            "/consolevil",
            "https://evil.example/console",
            "/console/\\evil",
            "/console/\r\nx",
        ] {
            assert_eq!(safe_path(path), None, "{path}");
        }
    }
}
