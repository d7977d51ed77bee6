//! The served OpenAPI document is the one in the repository, an independent validator accepts it, and the
//! service implements it.

use std::fs;
use std::process::Command;

use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::Server;
use serde_json::Value;

#[test]
fn the_served_document_is_the_one_in_the_repository() {
    let server = Server::start();
    let answer = server.anonymous().get("/openapi.json").expect(200);
    assert!(answer.header("content-type").unwrap().starts_with("application/json"));
    let path = binaries::workspace().join("docs/openapi.json");
    let stored = fs::read_to_string(&path).unwrap_or_default();
    let stored: Value = serde_json::from_str(&stored).unwrap_or_default();
    assert!(
        answer.json() == stored,
        "{} is out of date; run `keyledger openapi > docs/openapi.json` and review the difference",
        path.display()
    );
    assert!(
        stored["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")),
        "{}",
        stored["openapi"]
    );
}

#[test]
fn an_independent_validator_accepts_the_document() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("openapi.json");
    fs::write(&path, server.anonymous().get("/openapi.json").expect(200).body).unwrap();
    let validator = binaries::workspace().join("tests/tools/bin/openapi-spec-validator");
    assert!(validator.is_file(), "the validator is not installed: run tests/tools-install.sh test");
    let validate = |path: &std::path::Path| {
        Command::new(&validator).args(["--schema", "3.1"]).arg(path).output().unwrap()
    };
    let output = validate(&path);
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // The validator does reject a wrong document.
    let mut broken: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    broken["paths"]["/v1/keys"]["post"]["responses"] = Value::Null;
    fs::write(&path, broken.to_string()).unwrap();
    assert!(!validate(&path).status.success());
}

#[test]
fn every_documented_endpoint_exists() {
    let server = Server::start();
    let client = server.client();
    let document = client.get("/openapi.json").expect(200).json();
    let mut count = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "put", "post", "delete", "options", "head", "patch"] {
            if item.get(method).is_none() {
                continue;
            }
            count += 1;
            let path: String = path
                .split('/')
                .map(|part| if part.starts_with('{') { "key_01KAJX7Q5M3J6S2Y9W8V4T1R0P" } else { part })
                .collect::<Vec<_>>()
                .join("/");
            if path.starts_with("/problems/") {
                continue;
            }
            // Without a credential, an existing endpoint answers or demands one; a missing one is 404.
            let answer = client.anonymous().request(&method.to_uppercase(), &path).send();
            let is_missing = answer.status == 404 && answer.code() == "not_found";
            assert!(!is_missing && answer.status != 405, "{method} {path} answers {}", answer.status);
        }
    }
    assert!(count > 20, "{count} calls are documented");
    for path in [
        "/v1/keys",
        "/v1/keys/{id}",
        "/v1/keys/{id}/revoke",
        "/v1/keys/{id}/reactivate",
        "/v1/keys/{id}/rotate",
        "/v1/keys/verify",
        "/v1/keys/verify-batch",
        "/v1/keys/find",
        "/v1/keys/{id}/events",
        "/v1/events",
        "/v1/forward-auth",
        "/v1/organizations",
        "/v1/organizations/{id}",
        "/v1/apis",
        "/v1/apis/{id}",
        "/v1/root-keys",
    ] {
        assert!(document["paths"].get(path).is_some(), "{path} is not documented");
    }
}

#[test]
fn the_reference_page_loads_nothing_from_other_hosts() {
    let server = Server::start();
    let page = server.anonymous().get("/docs").expect(200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    let text = page.text();
    for (start, _) in text.match_indices("//") {
        let attribute = text[..start].rsplit_once(['"', '\'', '(']).map_or("", |(before, _)| before);
        let loads = ["src=", "href=", "url", "import ", "fetch"].iter().any(|it| attribute.ends_with(it));
        let address: String = text[start..].chars().take(60).collect();
        let scheme = text[..start].ends_with("https:") || text[..start].ends_with("http:");
        let quoted = text[..start].ends_with(['"', '\'']);
        assert!(!(loads && (scheme || quoted)), "the page loads {address}");
    }
    for reference in linked(&text) {
        server.anonymous().get(&reference).expect(200);
    }
}

/// The scripts, styles and pictures that a page loads.
fn linked(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for attribute in ["src=\"", "<link rel=\"stylesheet\" href=\""] {
        for (start, _) in page.match_indices(attribute) {
            let rest = &page[start + attribute.len()..];
            let value = rest.split('"').next().unwrap_or_default();
            if value.starts_with('/') {
                found.push(value.to_owned());
            }
        }
    }
    found
}
