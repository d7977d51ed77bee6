//! Applications: their secrets, their access tokens, and when both stop working.

use std::process::Command;
use std::time::Duration;

use keyledger_tests::client::connection::Connection;
use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{
    access_token, application, key, organization, root_key, text, token_request, trail, types,
};
use keyledger_tests::data::token;
use keyledger_tests::poll;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::{Options, Server};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Whether a management request and a verification are accepted.
fn answers(client: &Client, access_token: &str) -> (u16, u16) {
    let caller = client.with_token(access_token);
    let verify = json!({ "token": token::unknown("kl", "live") });
    (caller.get("/v1/keys").send().status, caller.post("/v1/keys/verify", &verify).send().status)
}

#[test]
fn the_life_of_an_application_is_recorded() {
    let server = Server::start();
    let client = server.client();
    let body = json!({ "name": "Billing", "permissions": ["keys:verify", "keys:read"] });
    let created = client.post("/v1/applications", &body).expect(201);
    assert_eq!(created.header("cache-control"), Some("no-store"));
    let answer = created.json();
    let shown = &answer["application"];
    let (id, secret) = (text(&shown["id"]), text(&answer["client_secret"]));
    assert!(id.starts_with("app_") && answer["client_id"] == json!(id), "{shown}");
    token::check(&secret, "klsecret_");
    assert_eq!((&shown["status"], &shown["version"]), (&json!("active"), &json!(1)));
    let path = format!("/v1/applications/{id}");
    assert_eq!(created.header("location"), Some(path.as_str()));
    assert_eq!(client.get(&path).expect(200).json(), *shown);
    assert_eq!(client.get("/v1/applications").expect(200).json()["data"], json!([shown]));

    let edit = json!({ "name": "Invoices", "permissions": ["keys:verify"] });
    let edited = client.patch(&path, &edit).header("if-match", "\"1\"").expect(200).json();
    assert_eq!((&edited["name"], &edited["version"]), (&json!("Invoices"), &json!(3)));
    assert_eq!(client.patch(&path, &edit).expect(200).json()["version"], 3, "nothing changes");
    assert_eq!(client.patch(&path, &edit).header("if-match", "\"1\"").expect(412).code(), "version_conflict");

    let rotated = client.post(&format!("{path}/rotate-secret"), &json!({})).expect(200).json();
    assert_ne!(text(&rotated["client_secret"]), secret);
    let deleted = client.delete(&path).expect(204);
    assert_eq!(client.delete(&path).expect(410).code(), "application_deleted");
    assert_eq!(client.patch(&path, &edit).expect(410).code(), "application_deleted");
    assert_eq!(client.get(&path).expect(200).json()["status"], "deleted");
    assert_eq!(client.get("/v1/applications/app_x").expect(404).code(), "application_not_found");

    let events = trail(&client, &id, &deleted);
    assert_eq!(
        types(&events),
        [
            "ApplicationCreated",
            "ApplicationRenamed",
            "ApplicationPermissionsChanged",
            "ApplicationSecretRotated",
            "ApplicationDeleted"
        ]
    );
    assert!(events.iter().all(|it| it["actor"]["kind"] == "root_key" && it["actor"]["ip"] == "127.0.0.1"));
}

#[test]
fn a_token_stops_with_its_application_its_secret_and_its_organization() {
    let mut server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let permissions = ["keys:read", "keys:verify"];
    let apps = [0; 4].map(|_| application(&client, &permissions, Some(&org)));
    let tokens = apps.each_ref().map(|app| access_token(&client, app));
    for token in &tokens {
        assert_eq!(answers(&client, token), (200, 200));
    }
    let [deleted, rotated, narrowed, kept] = &apps;
    client.delete(&deleted.path("")).expect(204);
    assert_eq!(answers(&client, &tokens[0]), (401, 401));
    client.post(&rotated.path("/rotate-secret"), &json!({})).expect(200);
    assert_eq!(answers(&client, &tokens[1]), (401, 401));
    // The old secret gets no new token either.
    for app in [deleted, rotated] {
        assert_eq!(token_request(&client, app, &[]).expect(401).json()["error"], "invalid_client");
    }
    client.patch(&narrowed.path(""), &json!({ "permissions": ["keys:verify"] })).expect(200);
    assert_eq!(answers(&client, &tokens[2]), (403, 200));
    // Access tokens stay valid across a restart, because the signing keys are stored.
    assert_eq!(answers(&client, &tokens[3]), (200, 200));
    server.kill();
    server.start_again();
    // The default issuer is the listening address, which is a different one now.
    let client = server.client();
    assert_eq!(answers(&client, &tokens[3]), (401, 401));
    let token = access_token(&client, kept);
    assert_eq!(answers(&client, &token), (200, 200));
    client.delete(&format!("/v1/organizations/{org}")).expect(204);
    assert_eq!(answers(&client, &token), (401, 401));
    token_request(&client, kept, &[]).expect(401);
}

#[test]
fn a_token_expires_and_survives_a_restart() {
    let arguments =
        ["--public-url", "https://keys.example", "--access-token-seconds", "3"].map(str::to_owned).to_vec();
    let mut server = Server::start_with(Options { arguments, ..Options::default() });
    let client = server.client();
    let app = application(&client, &["keys:read", "keys:verify"], None);
    let answer =
        token_request(&client.anonymous(), &app, &[("audience", "https://keys.example/api")]).expect(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("pragma"), Some("no-cache"));
    let token = text(&answer.json()["access_token"]);
    server.stop();
    server.start_again();
    let client = server.client();
    // All on one connection, because a connection caches its last credential.
    assert_eq!(answers(&client, &token), (200, 200));
    poll::until("the token to end", Duration::from_secs(10), || {
        (answers(&client, &token) == (401, 401)).then_some(())
    });
    let metadata = client.anonymous().get("/.well-known/oauth-authorization-server").expect(200).json();
    assert_eq!(metadata["issuer"], "https://keys.example");
    assert_eq!(metadata["token_endpoint"], "https://keys.example/oauth2/token");
}

#[test]
fn the_token_endpoint_refuses_as_rfc_6749_says() {
    let server = Server::start();
    let client = server.client();
    let app = application(&client, &["keys:verify"], None);
    let anonymous = client.anonymous();
    let basic = |id: &str, secret: &str| {
        format!("Basic {}", padded(&token::base64(format!("{id}:{secret}").as_bytes(), false)))
    };
    let good = basic(&app.id, &app.secret);
    let post = || anonymous.request("POST", "/oauth2/token");
    let grant = ("grant_type", "client_credentials");
    let secret = app.secret.as_str();
    let wrong = token::with_head("klsecret_", [9; 32]);
    let refusals = [
        (post().form(&[]), 400, "invalid_request"),
        (post().form(&[("grant_type", "password")]), 400, "unsupported_grant_type"),
        (post().form(&[grant]), 401, "invalid_client"),
        (post().form(&[grant, ("client_id", &app.id)]), 401, "invalid_client"),
        (post().form(&[grant, ("client_id", &app.id), ("client_secret", &wrong)]), 401, "invalid_client"),
        (post().form(&[grant, ("client_id", "app_x"), ("client_secret", secret)]), 401, "invalid_client"),
        (post().header("authorization", &basic(&app.id, &wrong)).form(&[grant]), 401, "invalid_client"),
        (post().header("authorization", "Basic !!!").form(&[grant]), 401, "invalid_client"),
        (
            post().header("authorization", &good).form(&[grant, ("client_secret", secret)]),
            400,
            "invalid_request",
        ),
        (post().header("authorization", &good).form(&[grant, ("client_id", "app_x")]), 401, "invalid_client"),
        (post().header("authorization", &good).form(&[grant, grant]), 400, "invalid_request"),
        (post().header("authorization", &good).form(&[grant, ("scope", "admin")]), 400, "invalid_scope"),
        (post().header("authorization", &good).form(&[grant, ("scope", "nothing")]), 400, "invalid_scope"),
        (
            post().header("authorization", &good).form(&[grant, ("audience", "https://x.example")]),
            400,
            "invalid_target",
        ),
        (
            post().header("authorization", &good).json(&json!({ "grant_type": "client_credentials" })),
            400,
            "invalid_request",
        ),
        // A root key's token is not a client secret.
        (
            post().form(&[grant, ("client_id", &app.id), ("client_secret", server.root_token())]),
            401,
            "invalid_client",
        ),
    ];
    for (index, (request, status, error)) in refusals.into_iter().enumerate() {
        let answer = request.send();
        assert_eq!(
            (answer.status, &answer.json()["error"]),
            (status, &json!(error)),
            "{index}: {}",
            answer.text()
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{index}");
        assert_eq!(answer.header("pragma"), Some("no-cache"), "{index}");
        let challenge = answer.header("www-authenticate").is_some_and(|it| it.starts_with("Basic"));
        assert!(status == 401 || !challenge, "{index}");
    }
    let refused = post().header("authorization", &basic(&app.id, &wrong)).form(&[grant]).expect(401);
    assert!(refused.header("www-authenticate").is_some_and(|it| it.starts_with("Basic ")));
    post().header("authorization", &good).form(&[grant]).expect(200);
    anonymous.get("/oauth2/token").expect(405);
}

fn padded(base64: &str) -> String {
    format!("{base64}{}", "=".repeat((4 - base64.len() % 4) % 4))
}

#[test]
fn no_caller_grants_more_than_it_has() {
    let server = Server::start();
    let client = server.client();
    let (own, other) = (organization(&client, "paid"), organization(&client, "paid"));
    let (_, limited) = root_key(&client, &["applications:write", "keys:read"], None);
    let limited = client.with_token(&limited);
    limited.post("/v1/applications", &json!({ "permissions": ["admin"] })).expect(403);
    limited.post("/v1/applications", &json!({ "permissions": ["keys:read", "keys:verify"] })).expect(403);
    let small = application(&limited, &["keys:read"], None);
    limited.patch(&small.path(""), &json!({ "permissions": ["keys:create"] })).expect(403);
    // Rotating the secret of an application with more permissions is not a way around it.
    let great = application(&client, &["admin"], None);
    limited.post(&great.path("/rotate-secret"), &json!({})).expect(403);
    assert_eq!(answers(&client, &access_token(&client, &great)), (200, 200));

    let (_, bound) = root_key(&client, &["admin"], Some(&own));
    let bound = client.with_token(&bound);
    for request in [
        bound.get(&great.path("")),
        bound.patch(&great.path(""), &json!({ "name": "x" })),
        bound.post(&great.path("/rotate-secret"), &json!({})),
        bound.delete(&great.path("")),
        bound.post("/v1/applications", &json!({ "permissions": ["keys:read"], "organization_id": other })),
    ] {
        request.expect(404);
    }
    let inside = application(&bound, &["keys:read", "keys:verify"], None);
    assert_eq!(bound.get("/v1/applications").expect(200).json()["total"], 1);
    let (mine, theirs) = (key(&client, &own, json!({})), key(&client, &other, json!({})));
    let inside = client.with_token(&access_token(&client, &inside));
    inside.get(&mine.path("")).expect(200);
    inside.get(&theirs.path("")).expect(404);
    assert_eq!(
        inside.post("/v1/keys/verify", &json!({ "token": theirs.token })).expect(200).json()["code"],
        "NOT_FOUND"
    );
}

#[test]
fn signing_keys_are_rotated_while_tokens_stay_valid() {
    let server = Server::start();
    let client = server.client();
    let app = application(&client, &["keys:read", "keys:verify"], None);
    let before = access_token(&client, &app);
    let ids = || -> Vec<String> {
        let keys = client.anonymous().get("/.well-known/jwks.json").expect(200).json();
        keys["keys"].as_array().unwrap().iter().map(|key| text(&key["kid"])).collect()
    };
    let first = ids();
    assert_eq!(first.len(), 1);
    let output = Command::new(binaries::path("keyledger"))
        .args(["signing-key", "rotate", "--data"])
        .arg(server.data())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(ids(), first, "the service reads it on a signal");
    let pid = Pid::from_raw(server.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    let both =
        poll::until("the new key", Duration::from_secs(10), || Some(ids()).filter(|ids| ids.len() == 2));
    assert_eq!(both[1], first[0]);
    let after = access_token(&client, &app);
    assert_eq!(answers(&client, &before), (200, 200));
    assert_eq!(answers(&client, &after), (200, 200));
    // A key that somebody else may have is dropped at once, and with it every token that it signed: also on a
    // connection whose last request had such a token.
    let mut connection = Connection::open(client.address()).unwrap();
    let verify = |token: &str| {
        let body = json!({ "token": token::unknown("kl", "live") });
        client.with_token(token).post("/v1/keys/verify", &body).encode("keep-alive")
    };
    let mut status = |token: &str| {
        connection.write(&verify(token)).unwrap();
        connection.read().unwrap().0
    };
    assert_eq!(status(&after), 200);
    let output = Command::new(binaries::path("keyledger"))
        .args(["signing-key", "rotate", "--compromised", "--data"])
        .arg(server.data())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(status(&after), 200, "the service reads it on a signal");
    kill_process(pid, Signal::HUP).unwrap();
    let only =
        poll::until("the only key", Duration::from_secs(10), || Some(ids()).filter(|ids| ids.len() == 1));
    assert!(!both.contains(&only[0]));
    assert_eq!((status(&before), status(&after)), (401, 401));
    assert_eq!((answers(&client, &before), answers(&client, &after)), ((401, 401), (401, 401)));
    assert_eq!(answers(&client, &access_token(&client, &app)), (200, 200));
    // The private keys are in their file only.
    let stored: Value =
        serde_json::from_slice(&std::fs::read(server.data().join("signing-keys.json")).unwrap()).unwrap();
    for key in stored["keys"].as_array().unwrap() {
        let pem = text(&key["private_key"]);
        let line = pem.lines().nth(5).unwrap();
        assert!(!server.output().contains(line), "a private key is in the output");
    }
    // A missing directory is named.
    let output = Command::new(binaries::path("keyledger"))
        .args(["signing-key", "rotate", "--data", "/nonexistent"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent"));
}
