//! Checks every answer of every test against the statuses that docs/openapi.json lists for its endpoint.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use crate::processes::binaries;

/// The documented statuses by path and method.
type Endpoints = BTreeMap<String, BTreeMap<String, Vec<u16>>>;

/// Statuses that are answered before the endpoint is known: the path is too long, the header fields are too
/// large.
const BEFORE_ROUTING: [u16; 2] = [414, 431];

/// Checks that the document lists the status, if it has the endpoint.
///
/// # Panics
/// When it does not.
#[track_caller]
pub fn check(method: &str, target: &str, status: u16) {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let endpoints = documented().iter().filter(|(template, _)| is_of(path, template));
    // A literal path wins over one with parameters.
    let Some((template, methods)) = endpoints.min_by_key(|(template, _)| template.matches('{').count())
    else {
        return;
    };
    let method = method.to_ascii_lowercase();
    let answer = methods.get(&method).or_else(|| methods.get("get").filter(|_| method == "head"));
    let Some(documented) = answer else { return };
    assert!(
        documented.contains(&status) || BEFORE_ROUTING.contains(&status),
        "docs/openapi.json lists {documented:?} for {method} {template}, not {status}"
    );
}

/// The method and the path of every documented endpoint.
#[must_use]
pub fn endpoints() -> Vec<(String, String)> {
    let all = documented().iter();
    all.flat_map(|(path, methods)| methods.keys().map(|method| (method.to_ascii_uppercase(), path.clone())))
        .collect()
}

fn documented() -> &'static Endpoints {
    static ENDPOINTS: OnceLock<Endpoints> = OnceLock::new();
    ENDPOINTS.get_or_init(|| {
        let path = binaries::workspace().join("docs/openapi.json");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let document: Value = serde_json::from_str(&text).expect("the document is JSON");
        let paths = document["paths"].as_object().expect("the document has paths");
        paths.iter().map(|(path, item)| (path.clone(), methods(item))).collect()
    })
}

fn methods(item: &Value) -> BTreeMap<String, Vec<u16>> {
    let operations = item.as_object().into_iter().flatten();
    let operations = operations.filter_map(|(method, it)| Some((method, it["responses"].as_object()?)));
    operations
        .map(|(method, responses)| {
            (method.clone(), responses.keys().filter_map(|status| status.parse().ok()).collect())
        })
        .collect()
}

/// Whether a path matches a template. The last parameter of a tile path may contain slashes.
fn is_of(path: &str, template: &str) -> bool {
    let holds_slashes = template.starts_with("/log/tile/") && template.ends_with("}");
    let mut parts = path.split('/');
    let templates: Vec<&str> = template.split('/').collect();
    for (index, expected) in templates.iter().enumerate() {
        let Some(part) = parts.next() else { return false };
        let is_parameter = expected.starts_with('{');
        if !(part == *expected || is_parameter && !part.is_empty()) {
            return false;
        }
        if holds_slashes && index + 1 == templates.len() {
            return true;
        }
    }
    parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_missing_in_the_document_is_found() {
        let refused = |method: &'static str, target: &'static str, status| {
            std::panic::catch_unwind(|| check(method, target, status)).is_err()
        };
        assert!(!refused("GET", "/v1/keys/key_x?at=1", 200) && refused("GET", "/v1/keys/key_x?at=1", 204));
        assert!(!refused("HEAD", "/v1/keys", 200) && refused("HEAD", "/v1/keys", 201));
        assert!(!refused("POST", "/v1/keys/find", 200) && refused("POST", "/v1/keys/find", 201));
        assert!(!refused("GET", "/log/tile/0/x001/067", 200) && refused("GET", "/log/tile/0/x001/067", 201));
        assert!(!refused("GET", "/console/keys", 418) && !refused("PUT", "/v1/keys", 405));
    }
}
