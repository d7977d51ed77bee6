//! What docs/openapi.json says that calls answer, held against every answer that a test gets.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use crate::processes::binaries;

/// The calls of each path: by their methods, the statuses that they answer.
type Calls = BTreeMap<String, BTreeMap<String, Vec<u16>>>;

/// Answers that come before it is known which call is made: the path is too long, the header fields are too large.
const BEFORE_CALLS: [u16; 2] = [414, 431];

/// Checks that the document has a status of a call that it has.
///
/// # Panics
/// When it has not.
#[track_caller]
pub fn check(method: &str, target: &str, status: u16) {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let calls = calls().iter().filter(|(template, _)| is_of(path, template));
    // A path that is spelled out goes before one with parameters.
    let Some((template, methods)) = calls.min_by_key(|(template, _)| template.matches('{').count()) else {
        return;
    };
    let method = method.to_ascii_lowercase();
    let answer = methods.get(&method).or_else(|| methods.get("get").filter(|_| method == "head"));
    let Some(documented) = answer else { return };
    assert!(
        documented.contains(&status) || BEFORE_CALLS.contains(&status),
        "docs/openapi.json does not say that {method} {template} answers {status}, only {documented:?}"
    );
}

fn calls() -> &'static Calls {
    static CALLS: OnceLock<Calls> = OnceLock::new();
    CALLS.get_or_init(|| {
        let path = binaries::workspace().join("docs/openapi.json");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let document: Value = serde_json::from_str(&text).expect("the document is JSON");
        let paths = document["paths"].as_object().expect("it has paths");
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

/// Whether a template is that of a path. A parameter at the end of a path of tiles holds slashes.
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
    fn what_the_document_omits_is_found() {
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
