//! Features of every request: idempotency, preconditions, positions, request ids; and the service's own
//! pages.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{self, events, key, key_body, organization, root_key, text};
use keyledger_tests::poll;
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

fn total(client: &Client) -> u64 {
    fixture::listed(client, "/v1/keys")["total"].as_u64().unwrap()
}

#[test]
fn a_repeated_post_is_carried_out_once() {
    let mut server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let body = key_body(&organization, json!({ "name": "once" }));
    let first = client.post("/v1/keys", &body).header("idempotency-key", "\"8e03978e\"").expect(201);
    assert_eq!(first.header("idempotent-replayed"), None);
    let issued = fixture::issued(&first);
    for restart in [false, true, false] {
        if restart {
            server.kill();
            server.start_again();
        }
        let client = server.client();
        // The draft's quotes are optional.
        for name in ["\"8e03978e\"", "8e03978e"] {
            let again = client.post("/v1/keys", &body).header("idempotency-key", name).expect(201);
            assert_eq!(again.header("idempotent-replayed"), Some("true"));
            assert_eq!(again.json()["key"], issued.key);
            assert_eq!(again.json().get("token"), None, "the token is shown once");
            assert_eq!(again.header("etag"), Some("\"1\""));
            assert_eq!(again.position(), issued.position);
        }
        assert_eq!(total(&client), 1);
    }
    let client = server.client();
    let other = key_body(&organization, json!({ "name": "other" }));
    let refused = client.post("/v1/keys", &other).header("idempotency-key", "8e03978e").expect(422);
    assert_eq!(refused.code(), "idempotency_key_reused");
    // The same idempotency key of another caller is a different one.
    let (_, token) = root_key(&client, &["keys:create"], None);
    client.with_token(&token).post("/v1/keys", &other).header("idempotency-key", "8e03978e").expect(201);
    assert_eq!(total(&client), 2);
}

#[test]
fn every_post_that_changes_something_accepts_an_idempotency_key() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));
    let calls = [
        ("/v1/organizations".to_owned(), json!({ "name": "o", "kind": "paid" }), 201),
        ("/v1/apis".to_owned(), json!({ "name": "a", "audience": "a", "scopes": [] }), 201),
        ("/v1/root-keys".to_owned(), json!({ "permissions": ["keys:read"] }), 201),
        (issued.path("/revoke"), json!({}), 200),
        (issued.path("/reactivate"), json!({}), 200),
        (issued.path("/rotate"), json!({}), 200),
    ];
    for (n, (path, body, status)) in calls.iter().enumerate() {
        let name = format!("name-{n}");
        let first = client.post(path, body).header("idempotency-key", &name).expect(*status);
        let again = client.post(path, body).header("idempotency-key", &name).expect(*status);
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{path}");
        assert_eq!(again.position(), first.position(), "{path}");
        assert_eq!(again.json().get("token"), None, "{path}");
        let mut expected = first.json();
        if let Some(body) = expected.as_object_mut() {
            body.remove("token");
        }
        assert_eq!(again.json(), expected, "{path}");
    }
    assert_eq!(events(&client, &issued.id).len(), 4);
}

#[test]
fn concurrent_identical_posts_are_carried_out_once() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    for round in 0..20 {
        let body = key_body(&organization, json!({ "name": format!("round {round}") }));
        let name = format!("race-{round}");
        let answers: Vec<_> = thread::scope(|scope| {
            let senders: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| client.post("/v1/keys", &body).header("idempotency-key", &name).send())
                })
                .collect();
            senders.into_iter().map(|sender| sender.join().unwrap()).collect()
        });
        let first = answers
            .iter()
            .filter(|it| it.status == 201 && it.header("idempotent-replayed").is_none())
            .count();
        assert_eq!(first, 1);
        for answer in &answers {
            match answer.status {
                201 => {}
                409 => assert_eq!(answer.code(), "idempotency_key_in_use"),
                other => panic!("{other}: {}", answer.text()),
            }
        }
        assert_eq!(total(&client), round + 1);
    }
}

#[test]
fn a_refused_post_can_be_retried_with_the_same_key() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));
    let reactivate = || client.post(&issued.path("/reactivate"), &json!({})).header("idempotency-key", "r");
    reactivate().expect(409);
    client.post(&issued.path("/revoke"), &json!({})).expect(200);
    reactivate().expect(200);
}

#[test]
fn a_change_can_require_a_version() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));
    let patch = |version: &str| {
        client.patch(&issued.path(""), &json!({ "name": version })).header("if-match", version)
    };
    patch("\"1\"").expect(200);
    let stale = patch("\"1\"").expect(412);
    assert_eq!(stale.code(), "version_conflict");
    patch("\"2\"").expect(200);
    patch("*").expect(200);
    client.post(&issued.path("/revoke"), &json!({})).header("if-match", "\"2\"").expect(412);
    let etag = client.get(&issued.path("")).expect(200).header("etag").unwrap().to_owned();
    client.post(&issued.path("/revoke"), &json!({})).header("if-match", &etag).expect(200);
    client.delete(&issued.path("")).header("if-match", &etag).expect(412);
    let path = format!("/v1/organizations/{organization}");
    client.patch(&path, &json!({ "name": "x" })).header("if-match", "\"9\"").expect(412);
    client.patch(&path, &json!({ "name": "x" })).header("if-match", "\"1\"").expect(200);
}

#[test]
fn if_match_accepts_any_of_several_versions() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    // A text that is not a version never matches.
    let listed = key(&client, &organization, json!({}));
    let rename = |name: &str, tags: &str| {
        client.patch(&listed.path(""), &json!({ "name": name })).header("if-match", tags).send().status
    };
    assert_eq!(rename("a", "\"7\", \"1\", \"9\""), 200);
    for tags in ["W/\"2\"", "\"02\"", "\"abc\"", "\"1\", \"3\"", "\"4294967296\""] {
        assert_eq!(rename("b", tags), 412, "{tags}");
    }
    assert_eq!(rename("c", "\"abc\", W/\"1\", \"2\""), 200);
    assert_eq!(rename("d", ", ,\"a,b\" ,\"3\","), 200);
    // The refusal gives the reason.
    for (tags, detail) in [
        (
            "W/\"4\"",
            "the version is 4, and If-Match lists no version; send the object's ETag unchanged, such as \"4\", without W/",
        ),
        (
            "\"abc\"",
            "the version is 4, and If-Match lists no version; send the object's ETag unchanged, such as \"4\", without W/",
        ),
        ("\"3\"", "the version is now 4, not 3; read the object again and retry"),
        (
            "\"2\", \"3\"",
            "the version is 4, which If-Match does not list; read the object again and decide whether the change still applies",
        ),
    ] {
        let revoke = client.post(&listed.path("/revoke"), &json!({}));
        let requests = [
            client.patch(&listed.path(""), &json!({ "name": "e" })),
            client.get(&listed.path("")),
            revoke.header("idempotency-key", "once"),
        ];
        for request in requests {
            assert_eq!(request.header("if-match", tags).expect(412).json()["detail"], detail, "{tags}");
        }
    }
}

#[test]
fn reads_support_preconditions() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let listed = key(&client, &organization, json!({}));
    let path = format!("/v1/organizations/{organization}");
    // `If-Match` is evaluated before the check whether the caller's copy is current.
    let (root_key, _) = fixture::root_key(&client, &["keys:read"], None);
    for object in [listed.path(""), path.clone(), format!("/v1/root-keys/{root_key}")] {
        let etag = client.get(&object).expect(200).header("etag").unwrap().to_owned();
        for tags in [etag.as_str(), "*"] {
            client.get(&object).header("if-match", tags).expect(200);
        }
        let stale = client.get(&object).header("if-match", "\"99\"").header("if-none-match", &etag);
        assert_eq!(stale.expect(412).code(), "version_conflict");
        client.request("HEAD", &object).header("if-match", "\"99\"").expect(412);
    }
    for object in [listed.path(""), path.clone()] {
        let etag = client.get(&object).expect(200).header("etag").unwrap().to_owned();
        for tags in [etag.clone(), format!("W/{etag}, \"77\""), "*".into()] {
            let same = client.get(&object).header("if-none-match", &tags).expect(304);
            assert_eq!((same.header("etag"), same.body.len()), (Some(etag.as_str()), 0), "{tags}");
        }
        client.get(&object).header("if-none-match", "\"77\"").expect(200);
    }
}

#[test]
fn of_many_changes_to_the_same_version_one_is_applied() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let contested = key(&client, &organization, json!({}));
    let done: usize = thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|n| {
                let (client, path) = (&client, contested.path(""));
                scope.spawn(move || {
                    let body = json!({ "name": format!("caller {n}") });
                    usize::from(client.patch(&path, &body).header("if-match", "\"1\"").send().status == 200)
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    });
    assert_eq!(done, 1);
}

#[test]
fn reads_wait_for_a_position_and_fail_when_it_is_not_reached() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));
    let verify = json!({ "token": issued.token });
    let far = (issued.position + 1_000).to_string();
    let head = issued.position.to_string();
    let paths = [
        issued.path(""),
        "/v1/keys".into(),
        "/v1/events".into(),
        issued.path("/events"),
        issued.path("/usage"),
        "/v1/usage".into(),
        "/v1/events/1/proof".into(),
        "/v1/log/verifications".into(),
        "/v1/projections".into(),
        "/v1/overview".into(),
    ];
    thread::scope(|scope| {
        for path in &paths {
            let (client, head, far) = (&client, &head, &far);
            scope.spawn(move || {
                client.get(path).header("keyledger-min-position", head).expect(200);
                refused_in_two_seconds(client.get(path).header("keyledger-min-position", far));
            });
        }
    });
    let introspect = client.request("POST", "/oauth2/introspect").form(&[("token", &issued.token)]);
    refused_in_two_seconds(introspect.header("keyledger-min-position", &far));
    client.post("/v1/keys/verify", &verify).header("keyledger-min-position", &head).expect(200);
    refused_in_two_seconds(client.post("/v1/keys/verify", &verify).header("keyledger-min-position", &far));

    // A position that is reached while the read waits.
    let next = (issued.position + 1).to_string();
    thread::scope(|scope| {
        let reader =
            scope.spawn(|| client.get(&issued.path("")).header("keyledger-min-position", &next).expect(200));
        thread::sleep(Duration::from_millis(200));
        assert!(!reader.is_finished());
        client.patch(&issued.path(""), &json!({ "name": "new" })).expect(200);
        assert_eq!(reader.join().unwrap().json()["name"], "new");
    });
}

fn refused_in_two_seconds(request: keyledger_tests::client::http::Request<'_>) {
    let began = Instant::now();
    let refused = request.expect(503);
    assert_eq!(refused.code(), "position_not_reached");
    assert!(refused.header("retry-after").is_some());
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1_800) && took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn request_ids_are_returned_and_generated_when_missing() {
    let server = Server::start();
    let client = server.client();
    let given = client.get("/v1/keys").header("x-request-id", "my-id.1").expect(200);
    assert_eq!(given.header("x-request-id"), Some("my-id.1"));
    let first = client.get("/healthz").expect(200).header("x-request-id").unwrap().to_owned();
    let second = client.get("/healthz").expect(200).header("x-request-id").unwrap().to_owned();
    assert!(!first.is_empty() && first != second);
    let problem = client.get("/v1/keys/key_x").header("x-request-id", "in-the-body").expect(404);
    assert_eq!(problem.json()["request_id"], "in-the-body");
    // An id that could break a log line is replaced.
    let odd = client.get("/v1/keys").header("x-request-id", &"x".repeat(5_000)).send();
    assert!(odd.header("x-request-id").is_none_or(|id| id.len() < 500));
}

/// Every test searches its server's output for secrets. Here tokens are put where users put them by mistake.
#[test]
fn a_token_in_the_wrong_place_is_not_repeated() {
    let server = Server::start();
    let client = server.client();
    let token = key(&client, &organization(&client, "paid"), json!({})).token;
    let requests = [
        client.get(&format!("/v1/keys/{token}")),
        client.get(&format!("/v1/keys/{token}/events")),
        client.get(&format!("/{token}")),
        client.get(&format!("/v1/keys?q={token}")),
        client.get(&format!("/v1/keys?token={token}")),
        client.get(&format!("/v1/keys?cursor={token}")),
        client.get(&format!("/v1/forward-auth?token={token}")),
        client.post(&format!("/v1/keys/{token}/revoke"), &json!({})),
        client.post("/v1/keys", &json!({ "organization_id": token, "environment": token })),
        client.post("/v1/keys/verify", &json!({ "token": [token] })),
        client.post("/v1/keys/verify", &json!({ "token": token, "environment": token })),
        client.request("POST", "/v1/keys/verify").body("application/json", token.as_bytes()),
        client.request("POST", "/v1/keys/verify").body("text/plain", token.as_bytes()),
    ];
    for request in &requests {
        let _ = request.send();
    }
    let wrong = client.anonymous().with_token(&token);
    assert_eq!(wrong.get("/v1/keys").send().status, 401);
}

#[test]
fn health_readiness_and_metrics_are_served() {
    let server = Server::start();
    let anonymous = server.anonymous();
    anonymous.get("/healthz").expect(200);
    let ready = anonymous.get("/readyz").expect(200);
    assert!(!ready.body.is_empty());
    let client = server.client();
    let before = metrics(&client);
    let _ = key(&client, &organization(&client, "paid"), json!({}));
    poll::until("the metrics to change", Duration::from_secs(5), || {
        (metrics(&client) != before).then_some(())
    });
    for line in metrics(&client).lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, value) = line.rsplit_once(' ').expect("a sample has a name and a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_'), "{line}");
    }
}

fn metrics(client: &Client) -> String {
    let answer = client.get("/metrics").expect(200);
    // The two formats that Prometheus reads.
    let media_type = answer.header("content-type").unwrap();
    assert!(
        ["text/plain", "application/openmetrics-text"].iter().any(|it| media_type.starts_with(it)),
        "{media_type}"
    );
    answer.text()
}

#[test]
fn a_request_under_way_is_finished_when_the_server_stops() {
    let mut server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let body = key_body(&organization, json!({})).to_string();
    let mut socket = TcpStream::connect(client.address()).unwrap();
    let post = |path: &str, body: &str, sent: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{sent}",
            server.root_token(),
            body.len()
        )
    };
    // The interim answer shows that the server has read the head.
    let question = json!({ "token": "kl_live_x" }).to_string();
    let both = post("/v1/keys/verify", &question, &question) + &post("/v1/keys", &body, &body[..10]);
    socket.write_all(both.as_bytes()).unwrap();
    let mut verdict = Vec::new();
    while !(String::from_utf8_lossy(&verdict).contains("MALFORMED") && verdict.ends_with(b"}")) {
        let mut part = [0; 1_024];
        let len = socket.read(&mut part).unwrap();
        assert!(len > 0, "{}", String::from_utf8_lossy(&verdict));
        verdict.extend_from_slice(&part[..len]);
    }
    let stopping = thread::spawn(move || {
        let status = server.stop();
        (server, status)
    });
    poll::until("the server to stop listening", Duration::from_secs(5), || {
        TcpStream::connect(client.address()).is_err().then_some(())
    });
    socket.write_all(&body.as_bytes()[10..]).unwrap();
    let mut answer = String::new();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // The connection is closed after the answer, so the stream ends.
    socket.read_to_string(&mut answer).unwrap();
    let (mut server, status) = stopping.join().unwrap();
    assert_eq!(status.code(), Some(0));
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 201"), "{head}");
    let shown: Value = serde_json::from_str(body).unwrap();
    server.transcript().issue(&text(&shown["token"]));
    server.start_again();
    assert_eq!(fixture::code(&server.client(), &text(&shown["token"])), "VALID");
}
