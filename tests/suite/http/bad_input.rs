//! Invalid fields, parameters and headers: every answer is a problem that a program can act on, names all
//! invalid fields at once, and is never a server error.

use keyledger_tests::client::http::Response;
use keyledger_tests::data::fixture::{self, Issued, key, key_body, organization, text};
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

/// An input, described, with its body and the pointers of the invalid fields.
type Case = (&'static str, Value, &'static [&'static str]);

/// Checks that an answer is a problem with this status, this code and these pointers, in any order.
#[track_caller]
pub(super) fn check(what: &str, answer: &Response, status: u16, code: &str, pointers: &[&str]) {
    let seen = answer.text();
    assert_eq!(answer.status, status, "{what}: {seen}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{what}: {seen}");
    assert_eq!(problem["status"], status, "{what}");
    assert_eq!(problem["type"], format!("/problems/{code}"), "{what}");
    for member in ["title", "detail", "request_id"] {
        assert!(problem[member].as_str().is_some_and(|it| !it.is_empty()), "{what}: {member}");
    }
    assert_eq!(answer.header("x-request-id"), problem["request_id"].as_str(), "{what}");
    for trace in ["panick", "backtrace", ".rs:", "src/", "redb"] {
        assert!(!seen.contains(trace), "{what}: {seen}");
    }
    let mut named: Vec<String> = match problem["errors"].as_array() {
        Some(errors) => errors.iter().map(|it| text(&it["pointer"])).collect(),
        None => Vec::new(),
    };
    named.sort();
    let mut expected: Vec<String> = pointers.iter().map(ToString::to_string).collect();
    expected.sort();
    assert_eq!(named, expected, "{what}: {seen}");
    for error in problem["errors"].as_array().into_iter().flatten() {
        assert!(error["detail"].as_str().is_some_and(|it| !it.is_empty()), "{what}: {error}");
    }
}

const UNKNOWN_API: &str = "api_01KAJX7Q5M3J6S2Y9W8V4T1R0P";

fn text_and_id_cases(organization: &str, api: &str) -> Vec<Case> {
    vec![
        ("missing fields", json!({}), &["/organization_id", "/environment"]),
        (
            "null fields",
            json!({ "organization_id": null, "environment": null }),
            &["/organization_id", "/environment"],
        ),
        ("unknown field", key_body(organization, json!({ "nmae": "x", "a/b~c": 1 })), &["/nmae", "/a~1b~0c"]),
        (
            "unknown organization",
            key_body("org_01KAJX7Q5M3J6S2Y9W8V4T1R0P", json!({})),
            &["/organization_id"],
        ),
        ("malformed organization", key_body("not an id!", json!({})), &["/organization_id"]),
        (
            "unknown environment",
            key_body(organization, json!({ "environment": "staging" })),
            &["/environment"],
        ),
        ("unknown API", key_body(organization, json!({ "api_id": UNKNOWN_API })), &["/api_id"]),
        ("malformed API", key_body(organization, json!({ "api_id": "users" })), &["/api_id"]),
        (
            "unknown scopes",
            key_body(organization, json!({ "api_id": api, "scopes": ["a", "b", "c"] })),
            &["/scopes/1", "/scopes/2"],
        ),
        (
            "malformed scope",
            key_body(organization, json!({ "scopes": ["a b", ""] })),
            &["/scopes/0", "/scopes/1"],
        ),
        ("too many scopes", key_body(organization, json!({ "scopes": vec!["a"; 101] })), &["/scopes"]),
        ("long name", key_body(organization, json!({ "name": "x".repeat(1_001) })), &["/name"]),
        ("empty name", key_body(organization, json!({ "name": "" })), &["/name"]),
        ("control character in a name", key_body(organization, json!({ "name": "a\u{7}b" })), &["/name"]),
        ("null character in a name", key_body(organization, json!({ "name": "a\u{0}b" })), &["/name"]),
        ("line break in a name", key_body(organization, json!({ "name": "a\nb" })), &["/name"]),
        (
            "long description",
            key_body(organization, json!({ "description": "x".repeat(4_001) })),
            &["/description"],
        ),
        ("long user", key_body(organization, json!({ "user_id": "x".repeat(256) })), &["/user_id"]),
        (
            "huge metadata",
            key_body(organization, json!({ "metadata": { "k": "v".repeat(16 * 1024) } })),
            &["/metadata"],
        ),
        ("metadata of another type", key_body(organization, json!({ "metadata": ["a"] })), &["/metadata"]),
    ]
}

fn expiry_cases(organization: &str, api: &str) -> Vec<Case> {
    vec![
        (
            "past expiry",
            key_body(organization, json!({ "expires_at": "2001-01-01T00:00:00Z" })),
            &["/expires_at"],
        ),
        ("no time", key_body(organization, json!({ "expires_at": "tomorrow" })), &["/expires_at"]),
        (
            "impossible time",
            key_body(organization, json!({ "expires_at": "2027-02-30T00:00:00Z" })),
            &["/expires_at"],
        ),
        ("unknown lifetime", key_body(organization, json!({ "expires_in": "two_years" })), &["/expires_in"]),
        (
            "past expiry beside a bad name",
            key_body(organization, json!({ "name": "\n", "expires_at": "2001-01-01T00:00:00Z" })),
            &["/name", "/expires_at"],
        ),
        (
            "past expiry beside an unknown scope",
            key_body(
                organization,
                json!({ "api_id": api, "scopes": ["z"], "expires_at": "2001-01-01T00:00:00Z" }),
            ),
            &["/scopes/0", "/expires_at"],
        ),
        (
            "past expiry beside an unknown organization",
            key_body("org_01KAJX7Q5M3J6S2Y9W8V4T1R0P", json!({ "expires_at": "2001-01-01T00:00:00Z" })),
            &["/organization_id", "/expires_at"],
        ),
        (
            "both expiries",
            key_body(organization, json!({ "expires_in": "one_year", "expires_at": "2099-01-01T00:00:00Z" })),
            &["/expires_at"],
        ),
    ]
}

fn type_cases(organization: &str) -> Vec<Case> {
    vec![
        (
            "wrong types",
            json!({
                "organization_id": 1, "environment": [], "name": {}, "description": true, "user_id": 5, "api_id": 2,
                "scopes": "a", "metadata": "m", "expires_in": 3, "expires_at": 4,
            }),
            &[
                "/organization_id",
                "/environment",
                "/name",
                "/description",
                "/user_id",
                "/api_id",
                "/scopes",
                "/metadata",
                "/expires_in",
                "/expires_at",
            ],
        ),
        (
            "everything at once",
            json!({
                "organization_id": organization, "environment": "moon", "name": "\u{1}", "scopes": ["ok", 7],
                "expires_at": "never", "x": 1,
            }),
            &["/environment", "/name", "/scopes/1", "/expires_at", "/x"],
        ),
    ]
}

#[test]
fn issuing_a_key_reports_every_invalid_field() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let api = fixture::api(&client, &["a"]);
    let cases = [
        text_and_id_cases(&organization, &api),
        expiry_cases(&organization, &api),
        type_cases(&organization),
    ];
    for (what, body, pointers) in &cases.concat() {
        check(what, &client.post("/v1/keys", body).send(), 422, "invalid_request", pointers);
    }
    let head = client.get("/v1/events?limit=200").expect(200).json();
    let created =
        head["data"].as_array().unwrap().iter().filter(|event| event["type"] == "KeyCreated").count();
    assert_eq!(created, 0, "a refused request leaves no event");

    // The largest allowed texts, and a name that is markup elsewhere.
    let most = json!({
        "name": "é".repeat(1_000), "description": "x".repeat(4_000), "metadata": { "k": "v".repeat(16 * 1024 - 8) },
    });
    client.post("/v1/keys", &key_body(&organization, most)).expect(201);
    client
        .post("/v1/keys", &key_body(&organization, json!({ "name": "<script>alert(1)</script>" })))
        .expect(201);
}

/// A method, a path, a body and the pointers of the invalid fields.
type RequestCase = (&'static str, String, Value, &'static [&'static str]);

fn changed_key_cases(issued: &Issued) -> Vec<RequestCase> {
    let long = "x".repeat(1_001);
    vec![
        (
            "PATCH",
            issued.path(""),
            json!({ "name": long, "scopes": ["b"], "environment": "preview" }),
            &["/name", "/environment", "/scopes/0"],
        ),
        ("PATCH", issued.path(""), json!({ "expires_at": "2001-01-01T00:00:00Z" }), &["/expires_at"]),
        (
            "PATCH",
            issued.path(""),
            json!({ "name": "\n", "expires_at": "2001-01-01T00:00:00Z", "scopes": ["b"] }),
            &["/name", "/expires_at", "/scopes/0"],
        ),
        (
            "PATCH",
            issued.path(""),
            json!({ "metadata": 5, "description": [] }),
            &["/metadata", "/description"],
        ),
        ("POST", issued.path("/revoke"), json!({ "reason": "because", "note": long }), &["/reason", "/note"]),
        ("POST", issued.path("/revoke"), json!({ "reasn": "superseded" }), &["/reasn"]),
        ("POST", issued.path("/rotate"), json!({ "overlap_seconds": -1 }), &["/overlap_seconds"]),
        ("POST", issued.path("/rotate"), json!({ "overlap_seconds": "1" }), &["/overlap_seconds"]),
        ("POST", issued.path("/rotate"), json!({ "overlap_seconds": 1.5 }), &["/overlap_seconds"]),
        ("POST", issued.path("/rotate"), json!({ "overlap_seconds": u64::MAX }), &["/overlap_seconds"]),
    ]
}

fn other_cases(organization_id: &str) -> Vec<RequestCase> {
    let long = "x".repeat(1_001);
    let org_path = format!("/v1/organizations/{organization_id}");
    vec![
        ("POST", "/v1/keys/verify".into(), json!({}), &["/token"]),
        (
            "POST",
            "/v1/keys/verify".into(),
            json!({ "token": 5, "scopes": "a", "environment": "x", "y": 1 }),
            &["/token", "/scopes", "/environment", "/y"],
        ),
        ("POST", "/v1/keys/verify-batch".into(), json!({}), &["/tokens"]),
        ("POST", "/v1/keys/verify-batch".into(), json!({ "tokens": ["a", 5] }), &["/tokens/1"]),
        ("POST", "/v1/keys/find".into(), json!({}), &["/token"]),
        (
            "POST",
            "/v1/organizations".into(),
            json!({ "kind": "rich", "name": long, "x": 1 }),
            &["/kind", "/name", "/x"],
        ),
        ("POST", "/v1/organizations".into(), json!({ "kind": "paid", "id": "no spaces!" }), &["/id"]),
        // Taken by a path of a compatible service's endpoint.
        ("POST", "/v1/organizations".into(), json!({ "kind": "paid", "id": "api_keys" }), &["/id"]),
        ("POST", "/v1/webhooks".into(), json!({ "url": "https://example.com:0/" }), &["/url"]),
        ("POST", "/v1/webhooks".into(), json!({ "url": "https://example.com:99999/" }), &["/url"]),
        ("POST", "/v1/webhooks".into(), json!({ "url": "https://[fe80::1%25eth0]/" }), &["/url"]),
        ("POST", "/v1/organizations".into(), json!({ "kind": "paid", "id": "x".repeat(65) }), &["/id"]),
        ("PATCH", org_path, json!({ "kind": "rich", "name": 5 }), &["/kind", "/name"]),
        (
            "POST",
            "/v1/apis".into(),
            json!({ "scopes": ["a b"], "token_prefix": "Kl" }),
            &["/name", "/audience", "/scopes/0", "/token_prefix"],
        ),
        (
            "POST",
            "/v1/apis".into(),
            json!({ "name": "n", "audience": "a", "token_prefix": "klroot" }),
            &["/token_prefix"],
        ),
        (
            "POST",
            "/v1/root-keys".into(),
            json!({ "permissions": ["keys:fly", "admin"] }),
            &["/permissions/0"],
        ),
        ("POST", "/v1/root-keys".into(), json!({}), &["/permissions"]),
        (
            "POST",
            "/v1/root-keys".into(),
            json!({ "permissions": ["admin"], "organization_id": "org_01KAJX7Q5M3J6S2Y9W8V4T1R0P" }),
            &["/organization_id"],
        ),
    ]
}

#[test]
fn other_requests_report_every_invalid_field() {
    let server = Server::start();
    let client = server.client();
    let organization_id = organization(&client, "paid");
    let api = fixture::api(&client, &["a"]);
    let issued = key(&client, &organization_id, json!({ "api_id": api }));
    let cases = [changed_key_cases(&issued), other_cases(&organization_id)];
    for (method, path, body, pointers) in &cases.concat() {
        let answer = client.request(method, path).json(body).send();
        check(&format!("{method} {path} {body:.200}"), &answer, 422, "invalid_request", pointers);
    }
}

/// Paths with one invalid query parameter each.
fn wrong_queries(issued: &Issued, cursor: &str) -> Vec<String> {
    vec![
        "/v1/keys?limit=0".to_owned(),
        "/v1/keys?limit=201".into(),
        "/v1/keys?limit=many".into(),
        "/v1/keys?limit=-1".into(),
        "/v1/keys?cursor=garbage".into(),
        "/v1/keys?cursor=%00%ff".into(),
        format!("/v1/keys?cursor={}", &cursor[..cursor.len() - 1]),
        format!("/v1/keys?sort=-created_at&cursor={cursor}"),
        "/v1/keys?sort=colour".into(),
        "/v1/keys?environment=staging".into(),
        "/v1/keys?status=asleep".into(),
        "/v1/keys?api_id=x".into(),
        "/v1/keys?created_after=yesterday".into(),
        "/v1/keys?created_before=1".into(),
        "/v1/keys?expires_before=x".into(),
        "/v1/keys?colour=red".into(),
        "/v1/events?after=x".into(),
        "/v1/events?after=-1".into(),
        "/v1/events?limit=0".into(),
        "/v1/events?from=x".into(),
        "/v1/events?to=x".into(),
        "/v1/events?type=KeyExploded".into(),
        "/v1/events?colour=red".into(),
        "/v1/keys?limit=1&limit=2".into(),
        "/v1/keys?status=active&status=revoked".into(),
        "/v1/keys?user_id=".into(),
        "/v1/keys?status=".into(),
        "/v1/events?limit=1&limit=2".into(),
        "/v1/events?actor_id=".into(),
        "/v1/organizations?cursor=zzz".into(),
        "/v1/organizations?limit=1&limit=1".into(),
        format!("/v1/organizations/{}/clients?cursor=zzz", text(&issued.key["organization_id"])),
        "/v1/apis?foo=1".into(),
        issued.path("?at=1&at=2"),
        issued.path("?at=1&x=1"),
        issued.path("?at="),
        issued.path("?at=x"),
        issued.path("?at=-1"),
        issued.path("?at=99999999999999999999999"),
        issued.path("?at=999999"),
        issued.path("?colour=red"),
    ]
}

#[test]
fn an_invalid_query_parameter_is_reported_by_name() {
    let server = Server::start();
    let client = server.client();
    let issued = key(&client, &organization(&client, "paid"), json!({}));
    let cursor = {
        let _ = key(&client, &text(&issued.key["organization_id"]), json!({}));
        text(&fixture::listed(&client, "/v1/keys?limit=1&sort=name")["next_cursor"])
    };
    for path in &wrong_queries(&issued, &cursor) {
        let answer = client.get(path).send();
        let problem = answer.json();
        let pointers: Vec<String> =
            problem["errors"].as_array().into_iter().flatten().map(|it| text(&it["pointer"])).collect();
        assert!(pointers.iter().all(|it| it.starts_with('?')) && pointers.len() == 1, "{path}: {problem}");
        let pointers: Vec<&str> = pointers.iter().map(String::as_str).collect();
        check(path, &answer, 422, "invalid_request", &pointers);
    }
    let clients = format!("/v1/organizations/{}/clients", text(&issued.key["organization_id"]));
    for path in ["/v1/apis", "/v1/organizations", clients.as_str(), "/v1/keys", "/v1/events"] {
        let answer = client.get(&format!("{path}?limit=0&foo=1")).send();
        check(path, &answer, 422, "invalid_request", &["?limit", "?foo"]);
    }
    client.get("/v1/keys?cursor=&q=").expect(200);
    for path in
        ["/v1/keys/key_nonsense", "/v1/keys/x%00y", "/v1/keys/%ff", "/v1/keys/key_01KAJX7Q5M3J6S2Y9W8V4T1R0P"]
    {
        let answer = client.get(path).send();
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.text());
        check(path, &answer, answer.status, &answer.code(), &[]);
    }
    check("unknown path", &client.get("/v2/keys").send(), 404, "not_found", &[]);
    check("unknown page", &client.get("/problems/no_such_code").send(), 404, "not_found", &[]);
}

#[test]
fn invalid_headers_are_refused() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));
    let cases = [
        ("keyledger-min-position", "x"),
        ("keyledger-min-position", "-1"),
        ("keyledger-min-position", ""),
        ("keyledger-min-position", "99999999999999999999999"),
    ];
    for (name, value) in cases {
        for request in [client.get("/v1/keys"), client.get(&issued.path("")), client.get("/v1/events")] {
            check(value, &request.header(name, value).send(), 400, "malformed_request", &[]);
        }
        let verify =
            client.post("/v1/keys/verify", &json!({ "token": issued.token })).header(name, value).send();
        check(value, &verify, 400, "malformed_request", &[]);
    }
    for value in ["x", "\"one\"", "\"1", "W/\"1\"", "-1"] {
        let answer = client.patch(&issued.path(""), &json!({ "name": "n" })).header("if-match", value).send();
        assert!(matches!(answer.status, 400 | 412), "{value}: {}", answer.text());
        check(value, &answer, answer.status, &answer.code(), &[]);
    }
    for value in ["", &"x".repeat(300)] {
        let request =
            client.post("/v1/keys", &key_body(&organization, json!({}))).header("idempotency-key", value);
        check("idempotency key", &request.send(), 400, "malformed_request", &[]);
    }
    for value in ["x", "-1"] {
        let request =
            client.get("/v1/events").header("accept", "text/event-stream").header("last-event-id", value);
        let answer = request.send();
        assert!(matches!(answer.status, 400 | 422), "{value}: {}", answer.text());
    }
    let image = client.get("/v1/events").header("accept", "image/png").send();
    check("accept", &image, 406, "not_acceptable", &[]);
}

#[test]
fn invalid_bodies_methods_and_media_types_are_refused() {
    let server = Server::start();
    let client = server.client();
    let post =
        |media_type: &str, body: &[u8]| client.request("POST", "/v1/keys").body(media_type, body).send();
    let json = "application/json";
    for body in [
        "{",
        "{\"a\":}",
        "nul",
        "{\"a\":1}}",
        "{'a':1}",
        "{\"a\":NaN}",
        "\u{feff}{}",
        "{\"a\":\"\\ud800\"}",
        "[1,",
        "\"",
    ] {
        check(body, &post(json, body.as_bytes()), 400, "malformed_request", &[]);
    }
    check("no UTF-8", &post(json, b"{\"name\":\"\xff\xfe\"}"), 400, "malformed_request", &[]);
    let deep = "[".repeat(30_000);
    check("deeply nested", &post(json, deep.as_bytes()), 422, "invalid_request", &[""]);
    for body in ["[]", "5", "null", "\"x\"", "true"] {
        check(body, &post(json, body.as_bytes()), 422, "invalid_request", &[""]);
    }
    let twice = post(json, b"{\"environment\":\"preview\",\"environment\":\"production\"}");
    assert!(matches!(twice.status, 400 | 422), "{}", twice.text());

    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(64 * 1024));
    check("too large", &post(json, large.as_bytes()), 413, "body_too_large", &[]);
    let exact = format!("{{\"name\":\"{}\"}}", "x".repeat(64 * 1024 - 11));
    assert_eq!(exact.len(), 64 * 1024);
    assert_eq!(post(json, exact.as_bytes()).status, 422);

    for media_type in
        ["text/plain", "application/xml", "application/x-www-form-urlencoded", "", "application/jsonx"]
    {
        check(media_type, &post(media_type, b"{}"), 415, "unsupported_media_type", &[]);
    }
    assert_eq!(post("application/json; charset=utf-8", b"{}").status, 422);
    assert_eq!(post("APPLICATION/JSON", b"{}").status, 422);

    let issued = key(&client, &organization(&client, "paid"), serde_json::json!({}));
    for (method, path) in [
        ("PUT", "/v1/keys".to_owned()),
        ("DELETE", "/v1/keys".into()),
        ("GET", "/v1/keys/verify".into()),
        ("GET", issued.path("/revoke")),
        ("PUT", issued.path("")),
        ("POST", issued.path("")),
        ("POST", "/v1/events".into()),
        ("TRACE", "/v1/keys".into()),
        ("BREW", "/v1/keys".into()),
        ("POST", "/healthz".into()),
    ] {
        let answer = client.request(method, &path).send();
        // `verify` in the place of an id is an unknown id.
        if (method, path.as_str()) == ("GET", "/v1/keys/verify") && answer.status == 404 {
            continue;
        }
        check(&format!("{method} {path}"), &answer, 405, "method_not_allowed", &[]);
        assert!(answer.header("allow").is_some(), "{method} {path}");
    }
}

#[test]
fn the_type_of_a_problem_is_a_page() {
    let server = Server::start();
    let answer = server.client().get("/v1/keys/key_x").expect(404).json();
    let page = server.anonymous().get(&text(&answer["type"])).expect(200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    assert!(page.text().contains("key_not_found"));
}

#[test]
fn the_smallest_and_largest_positions_and_times_are_handled() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));
    for format in ["json", "cloudevents-batch", "ndjson", "csv", "ocsf", "cloudevents"] {
        for asked in
            ["after=18446744073709551615", "cursor=18446744073709551615", "after=18446744073709551614"]
        {
            for path in ["/v1/events".to_owned(), issued.path("/events")] {
                let path = format!("{path}?{asked}&format={format}");
                let answer = client.get(&path).expect(200);
                assert!(!answer.text().contains("KeyCreated"), "{path}: {}", answer.text());
            }
        }
        let path = format!("/v1/events?cursor=18446744073709551615&sort=-position&format={format}");
        assert!(client.get(&path).expect(200).text().contains("KeyCreated"), "{path}");
    }
    let position_max = "18446744073709551615";
    check(
        "?at",
        &client.get(&issued.path("?at=18446744073709551615")).send(),
        422,
        "invalid_request",
        &["?at"],
    );
    for path in ["/v1/events/18446744073709551615/proof", "/log/tile/63/x999/x999/x999/999"] {
        assert_eq!(client.get(path).send().status, 404, "{path}");
    }
    let waited = client.get("/v1/keys").header("keyledger-min-position", position_max).send();
    check("keyledger-min-position", &waited, 503, "position_not_reached", &[]);
    assert!(!server.output().contains("damaged"), "{}", server.output());

    // Times that RFC 3339 cannot write in UTC are refused.
    for time in ["9999-12-31T23:59:59-12:00", "0000-01-01T00:00:00+00:01"] {
        let body = key_body(&organization, json!({ "expires_at": time }));
        check(time, &client.post("/v1/keys", &body).send(), 422, "invalid_request", &["/expires_at"]);
        let change = client.patch(&issued.path(""), &json!({ "expires_at": time })).send();
        check(time, &change, 422, "invalid_request", &["/expires_at"]);
        let time = time.replace('+', "%2B");
        for (path, parameter) in
            [("/v1/keys", "created_after"), ("/v1/events", "from"), (issued.path("").as_str(), "at")]
        {
            let answer = client.get(&format!("{path}?{parameter}={time}")).send();
            check(parameter, &answer, 422, "invalid_request", &[&format!("?{parameter}")]);
        }
    }
    let last = json!({ "expires_at": "9999-12-31T23:59:59.999Z" });
    assert_eq!(key(&client, &organization, last.clone()).key["expires_at"], last["expires_at"]);
}

#[test]
fn arrays_and_oversized_json_are_refused() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let token = key(&client, &organization, json!({})).token;
    for body in [json!([token]), json!([token, null, null, null, null])] {
        for spaced in [body.to_string(), format!(" \n{body}")] {
            let answer =
                client.request("POST", "/v1/keys/verify").body("application/json", spaced.as_bytes()).send();
            check(&spaced, &answer, 422, "invalid_request", &[""]);
        }
    }
    // Metadata: integers beyond 64 bits, numbers beyond a double, and too many levels.
    for (metadata, pointer) in [
        (r#"{"n":18446744073709551616}"#.to_owned(), ""),
        (r#"{"n":[-9223372036854775809]}"#.into(), ""),
        (r#"{"n":1E400}"#.into(), ""),
        (format!("{}1{}", "{\"n\":".repeat(130), "}".repeat(130)), ""),
        (format!("{}1{}", "{\"n\":".repeat(65), "}".repeat(65)), "/metadata"),
    ] {
        let body = format!(
            "{{\"organization_id\":\"{organization}\",\"environment\":\"production\",\"metadata\":{metadata}}}"
        );
        let answer = client.request("POST", "/v1/keys").body("application/json", body.as_bytes()).send();
        check(&metadata, &answer, 422, "invalid_request", &[pointer]);
    }
    let exact = r#"{"n":18446744073709551615,"m":-9223372036854775808,"s":"18446744073709551616"}"#;
    let metadata: Value = serde_json::from_str(exact).unwrap();
    assert_eq!(key(&client, &organization, json!({ "metadata": metadata })).key["metadata"], metadata);
}
