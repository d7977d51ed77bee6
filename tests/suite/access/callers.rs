//! Root keys: their permissions, and the organization they are bound to.

use keyledger_tests::client::http::{Client, Request};
use keyledger_tests::data::fixture::{self, code, key, key_body, organization, root_key, text};
use keyledger_tests::data::token;
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

#[test]
fn a_request_without_a_caller_is_401_with_a_challenge() {
    let server = Server::start();
    let wrong = [
        None,
        Some(("authorization", format!("Bearer {}", token::root()))),
        Some(("authorization", "Basic dXNlcjpwYXNz".into())),
        Some(("authorization", "Bearer ".into())),
        Some(("authorization", "Bearer garbage".into())),
        Some(("x-api-key", token::root())),
        Some(("x-api-key", String::new())),
    ];
    let anonymous = server.anonymous();
    for credential in &wrong {
        for path in
            ["/v1/keys", "/v1/events", "/v1/organizations", "/v1/apis", "/v1/root-keys", "/v1/keys/key_x"]
        {
            let mut request = anonymous.get(path);
            if let Some((name, value)) = credential {
                request = request.header(name, value);
            }
            let answer = request.expect(401);
            assert_eq!(answer.code(), "unauthenticated");
            assert!(answer.header("www-authenticate").is_some_and(|it| it.starts_with("Bearer")), "{path}");
        }
        let body = json!({ "token": token::unknown("kl", "live") });
        anonymous.post("/v1/keys/verify", &body).expect(401);
    }
    // A key's token is not a credential for the management endpoints.
    let client = server.client();
    let issued = key(&client, &organization(&client, "paid"), json!({}));
    anonymous.with_token(&issued.token).get("/v1/keys").expect(401);
    anonymous.get("/v1/keys").header("x-api-key", server.root_token()).expect(200);
    anonymous.get("/v1/keys").header("authorization", &format!("bearer {}", server.root_token())).expect(200);
}

const PERMISSIONS: [&str; 11] = [
    "keys:create",
    "keys:read",
    "keys:update",
    "keys:revoke",
    "keys:delete",
    "keys:verify",
    "organizations:read",
    "organizations:write",
    "apis:read",
    "apis:write",
    "events:read",
];

#[test]
fn each_endpoint_requires_its_permission() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let api = fixture::api(&client, &["a"]);
    let issued = key(&client, &org, json!({}));
    let (create, empty, verify) = (key_body(&org, json!({})), json!({}), json!({ "token": issued.token }));
    let batch = json!({ "tokens": [issued.token] });
    let register = json!({ "name": "n", "audience": "a", "scopes": [] });
    type Call<'a> = Box<dyn Fn(&'a Client) -> Request<'a> + 'a>;
    let (org_path, api_path) = (format!("/v1/organizations/{org}"), format!("/v1/apis/{api}"));
    for holder in PERMISSIONS {
        let (_, token) = root_key(&client, &[holder], None);
        let caller = client.with_token(&token);
        let calls: Vec<(&str, Call<'_>)> = vec![
            ("keys:create", Box::new(|it| it.post("/v1/keys", &create))),
            ("keys:read", Box::new(|it| it.get("/v1/keys"))),
            ("keys:read", Box::new(|it| it.get(&issued.path("")))),
            ("keys:update", Box::new(|it| it.patch(&issued.path(""), &empty))),
            ("keys:revoke", Box::new(|it| it.post(&issued.path("/revoke"), &empty))),
            ("keys:revoke", Box::new(|it| it.post(&issued.path("/reactivate"), &empty))),
            ("keys:verify", Box::new(|it| it.post("/v1/keys/verify", &verify))),
            ("keys:verify", Box::new(|it| it.post("/v1/keys/verify-batch", &batch))),
            ("organizations:read", Box::new(|it| it.get("/v1/organizations"))),
            ("organizations:read", Box::new(|it| it.get(&org_path))),
            ("organizations:write", Box::new(|it| it.patch(&org_path, &empty))),
            ("organizations:write", Box::new(|it| it.post("/v1/organizations", &empty))),
            ("apis:read", Box::new(|it| it.get("/v1/apis"))),
            ("apis:read", Box::new(|it| it.get(&api_path))),
            ("apis:write", Box::new(|it| it.patch(&api_path, &empty))),
            ("apis:write", Box::new(|it| it.post("/v1/apis", &register))),
            ("events:read", Box::new(|it| it.get("/v1/events"))),
            ("events:read", Box::new(|it| it.get(&issued.path("/events")))),
            ("admin", Box::new(|it| it.get("/v1/root-keys"))),
            ("admin", Box::new(|it| it.post("/v1/root-keys", &json!({ "permissions": ["keys:read"] })))),
        ];
        for (needed, call) in &calls {
            let answer = call(&caller).send();
            if *needed == holder {
                assert!(!matches!(answer.status, 401 | 403), "{holder} for {needed}: {}", answer.text());
            } else {
                assert_eq!(answer.status, 403, "{holder} for {needed}: {}", answer.text());
                assert_eq!(answer.code(), "forbidden");
            }
        }
        let deleted = caller.delete(&key(&client, &org, json!({})).path("")).send();
        assert_eq!(deleted.status, if holder == "keys:delete" { 204 } else { 403 }, "{holder}");
    }
}

#[test]
fn a_bound_root_key_sees_its_organization_only() {
    let server = Server::start();
    let client = server.client();
    let (own, other) = (organization(&client, "paid"), organization(&client, "paid"));
    let (mine, theirs) = (key(&client, &own, json!({})), key(&client, &other, json!({})));
    let (_, token) = root_key(&client, &["admin"], Some(&own));
    let bound = client.with_token(&token);

    let page = bound.get("/v1/keys").expect(200).json();
    assert_eq!((page["data"].as_array().unwrap().len(), &page["total"]), (1, &json!(1)));
    assert_eq!(page["data"][0]["id"], mine.id);
    bound.get(&mine.path("")).expect(200);
    // Objects of other organizations look as if they did not exist.
    for request in [
        bound.get(&theirs.path("")),
        bound.get(&theirs.path("?at=3")),
        bound.get(&theirs.path("/events")),
        bound.patch(&theirs.path(""), &json!({ "name": "x" })),
        bound.post(&theirs.path("/revoke"), &json!({})),
        bound.post(&theirs.path("/reactivate"), &json!({})),
        bound.post(&theirs.path("/rotate"), &json!({})),
        bound.delete(&theirs.path("")),
        bound.get(&format!("/v1/organizations/{other}")),
        bound.post("/v1/keys", &key_body(&other, json!({}))),
        bound.post("/v1/keys/find", &json!({ "token": theirs.token })),
    ] {
        let answer = request.send();
        let as_unknown =
            answer.status == 404 || (answer.status == 422 && answer.text().contains("organization_id"));
        assert!(as_unknown, "{} {}", answer.status, answer.text());
    }
    // Deleting an organization is never theirs to do, so the answer tells nothing about it.
    for id in [&other, &own] {
        assert_eq!(bound.delete(&format!("/v1/organizations/{id}")).expect(403).code(), "forbidden");
    }
    assert_eq!(code(&client, &theirs.token), "VALID");
    let listed = bound.get(&format!("/v1/keys?organization_id={other}")).send();
    assert!(listed.status != 200 || listed.json()["data"] == json!([]), "{}", listed.text());

    // Its own keys verify. A key of another organization gets no more than WRONG_ORGANIZATION.
    assert_eq!(fixture::verify(&bound, &mine.token)["code"], "VALID");
    let answer = fixture::verify(&bound, &theirs.token);
    assert_ne!(answer["valid"], true);
    assert!(!answer.to_string().contains(&theirs.id) || answer["code"] == "WRONG_ORGANIZATION", "{answer}");

    let events = bound.get("/v1/events?limit=200").expect(200).json();
    for event in events["data"].as_array().unwrap() {
        assert_eq!(event["organization_id"], own, "{event}");
    }
    let organizations = bound.get("/v1/organizations").send();
    if organizations.status == 200 {
        let ids: Vec<Value> =
            organizations.json()["data"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
        assert_eq!(ids, [json!(own)]);
    }
    // It cannot give itself more permissions.
    let body = json!({ "permissions": ["admin"] });
    let made = bound.post("/v1/root-keys", &body).send();
    assert!(made.status == 403 || made.json()["root_key"]["organization_id"] == own, "{}", made.status);
    let made =
        bound.post("/v1/root-keys", &json!({ "permissions": ["admin"], "organization_id": other })).send();
    assert!(matches!(made.status, 403 | 404 | 422), "{}", made.status);
    assert!(matches!(bound.post("/v1/organizations", &json!({ "kind": "paid" })).send().status, 403 | 404));
}

#[test]
fn a_revoked_root_key_stops_at_once_and_for_good() {
    let mut server = Server::start();
    let client = server.client();
    let (id, token) = root_key(&client, &["keys:read"], None);
    token::check(&token, "klroot_");
    let caller = client.with_token(&token);
    caller.get("/v1/keys").expect(200);
    let path = format!("/v1/root-keys/{id}");
    let shown = client.get("/v1/root-keys").expect(200).json();
    let listed = shown["data"].as_array().unwrap().iter().find(|it| it["id"] == id).cloned().unwrap();
    assert_eq!((&listed["permissions"], &listed["status"]), (&json!(["keys:read"]), &json!("active")));
    assert_eq!(text(&listed["last_four"]), token[token.len() - 4..]);

    client.delete(&path).expect(204);
    caller.get("/v1/keys").expect(401);
    server.kill();
    server.start_again();
    server.client().with_token(&token).get("/v1/keys").expect(401);
    server.client().get("/v1/keys").expect(200);
}
