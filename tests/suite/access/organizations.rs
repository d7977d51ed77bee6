//! Organizations and APIs, and what deleting them means for keys.

use std::time::Duration;

use keyledger_tests::data::fixture::{self, code, events, key, key_body, organization, text, types};
use keyledger_tests::data::token;
use keyledger_tests::poll;
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

#[test]
fn organizations_are_created_read_changed_and_listed() {
    let server = Server::start();
    let client = server.client();
    let created = client.post("/v1/organizations", &json!({ "name": "Acme", "kind": "test" })).expect(201);
    let organization = created.json();
    let id = text(&organization["id"]);
    assert!(id.starts_with("org_") && id.len() == 30, "{id}");
    assert_eq!(created.header("location"), Some(format!("/v1/organizations/{id}").as_str()));
    assert_eq!((&organization["kind"], &organization["status"]), (&json!("test"), &json!("active")));
    let path = format!("/v1/organizations/{id}");
    assert_eq!(client.get(&path).expect(200).json(), organization);
    let changed = client.patch(&path, &json!({ "name": "Acme Inc", "kind": "paid" })).expect(200);
    assert_eq!((&changed.json()["name"], &changed.json()["kind"]), (&json!("Acme Inc"), &json!("paid")));

    let own = json!({ "id": "tenant-42_B", "name": "Chosen", "kind": "partner" });
    assert_eq!(client.post("/v1/organizations", &own).expect(201).json()["id"], "tenant-42_B");
    let again = client.post("/v1/organizations", &own).expect(409);
    assert_eq!(again.code(), "organization_exists");

    let page = client.get("/v1/organizations").expect(200).json();
    let ids: Vec<String> = page["data"].as_array().unwrap().iter().map(|it| text(&it["id"])).collect();
    assert_eq!((ids.len(), &page["total"], &page["next_cursor"]), (2, &json!(2), &Value::Null));
    assert!(ids.contains(&id) && ids.contains(&"tenant-42_B".to_owned()));
}

#[test]
fn only_some_kinds_of_organization_can_have_keys() {
    let server = Server::start();
    let client = server.client();
    for kind in ["test", "paid", "partner"] {
        let organization = organization(&client, kind);
        assert_eq!(code(&client, &key(&client, &organization, json!({})).token), "VALID");
    }
    let free = organization(&client, "free");
    let refused = client.post("/v1/keys", &key_body(&free, json!({}))).expect(403);
    assert_eq!(refused.code(), "organization_kind_not_allowed");
    client.patch(&format!("/v1/organizations/{free}"), &json!({ "kind": "paid" })).expect(200);
    client.post("/v1/keys", &key_body(&free, json!({}))).expect(201);
}

#[test]
fn deleting_an_organization_stops_its_keys_at_that_moment() {
    let mut server = Server::start();
    let client = server.client();
    let (going, staying) = (organization(&client, "paid"), organization(&client, "paid"));
    let keys: Vec<_> = (0..50).map(|_| key(&client, &going, json!({}))).collect();
    let other = key(&client, &staying, json!({}));
    let deleted = client.delete(&format!("/v1/organizations/{going}")).expect(204);

    for issued in &keys {
        let answer = fixture::verify(&client, &issued.token);
        assert_eq!(answer["valid"], false);
        match text(&answer["code"]).as_str() {
            "ORGANIZATION_INACTIVE" => assert_eq!(answer["key_id"], issued.id),
            "NOT_FOUND" => {}
            other => panic!("{other}"),
        }
    }
    for issued in &keys {
        poll::until("KeyDeleted to follow", Duration::from_secs(10), || {
            (code(&client, &issued.token) == "NOT_FOUND").then_some(())
        });
        let events = poll::until("KeyDeleted in the audit trail", Duration::from_secs(10), || {
            Some(events(&client, &issued.id)).filter(|events| events.len() > 1)
        });
        assert_eq!(types(&events), ["KeyCreated", "KeyDeleted"]);
        assert_eq!(events[1]["actor"]["kind"], "system");
        assert!(events[1]["position"].as_u64().unwrap() > deleted.position());
        let cause =
            client.get(&format!("/v1/events?after={}&limit=1", deleted.position() - 1)).expect(200).json();
        assert_eq!(cause["data"][0]["type"], "OrganizationDeleted");
        assert_eq!(events[1]["causation_id"], cause["data"][0]["id"]);
    }
    assert_eq!(code(&client, &other.token), "VALID");
    let refused = client.post("/v1/keys", &key_body(&going, json!({}))).send();
    assert!(matches!(refused.status, 404 | 410 | 422), "{}", refused.text());
    let read = client.get(&format!("/v1/organizations/{going}")).send();
    assert!(matches!(read.status, 200 | 404 | 410), "{}", read.text());
    assert_eq!(client.delete(&format!("/v1/organizations/{going}")).send().status, 410);

    server.stop();
    server.start_again();
    let client = server.client();
    assert_eq!(code(&client, &keys[0].token), "NOT_FOUND");
    assert_eq!(code(&client, &other.token), "VALID");
}

#[test]
fn the_keys_of_a_deleted_organization_are_deleted_even_across_a_kill() {
    let mut server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let keys: Vec<_> = (0..200).map(|_| key(&client, &organization, json!({}))).collect();
    client.delete(&format!("/v1/organizations/{organization}")).expect(204);
    server.kill();
    server.start_again();
    let client = server.client();
    for issued in &keys {
        assert_ne!(code(&client, &issued.token), "VALID");
        poll::until("KeyDeleted after a kill", Duration::from_secs(10), || {
            (types(&events(&client, &issued.id)) == ["KeyCreated", "KeyDeleted"]).then_some(())
        });
    }
}

#[test]
fn apis_have_scopes_that_keys_may_carry() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let body = json!({
        "name": "Users", "audience": "https://users.example", "scopes": ["read:users"], "token_prefix": "acme",
    });
    let api = client.post("/v1/apis", &body).expect(201).json();
    for member in ["name", "audience", "scopes", "token_prefix"] {
        assert_eq!(api[member], body[member], "{member}");
    }
    let id = text(&api["id"]);
    let path = format!("/v1/apis/{id}");
    assert_eq!(client.get(&path).expect(200).json(), api);
    let issued = key(&client, &organization, json!({ "api_id": id, "scopes": ["read:users"] }));
    token::check(&issued.token, "acme_live_");
    assert_eq!(code(&client, &issued.token), "VALID");
    let unknown = json!({ "api_id": id, "scopes": ["read:users", "write:users", "x"] });
    let refused = client.post("/v1/keys", &key_body(&organization, unknown)).expect(422).json();
    let pointers: Vec<String> =
        refused["errors"].as_array().unwrap().iter().map(|it| text(&it["pointer"])).collect();
    assert_eq!(pointers, ["/scopes/1", "/scopes/2"]);

    client.patch(&path, &json!({ "scopes": ["read:users", "write:users"], "name": "People" })).expect(200);
    let edited = client.patch(&issued.path(""), &json!({ "scopes": ["write:users"] })).expect(200).json();
    assert_eq!(edited["scopes"], json!(["write:users"]));
    assert_eq!(client.get("/v1/apis").expect(200).json()["data"][0]["name"], "People");

    client.delete(&path).expect(204);
    assert_ne!(code(&client, &issued.token), "VALID");
    assert_eq!(client.delete(&path).send().status, 410);
}

#[test]
fn organizations_are_found_by_id_and_name() {
    let server = Server::start();
    let client = server.client();
    for (id, name) in [("acme", "Äpfel GmbH"), ("acme-eu", "Other"), ("zeta", "ACME again")] {
        client.post("/v1/organizations", &json!({ "id": id, "name": name, "kind": "paid" })).expect(201);
    }
    let ids = |path: &str| {
        let page = client.get(path).expect(200).json();
        let ids: Vec<String> = page["data"].as_array().unwrap().iter().map(|it| text(&it["id"])).collect();
        (ids.join(" "), page["total"].clone(), page["next_cursor"].clone())
    };
    assert_eq!(ids("/v1/organizations?q=aCmE"), ("acme acme-eu zeta".into(), json!(3), Value::Null));
    assert_eq!(ids("/v1/organizations?q=%C3%A4PF"), ("acme".into(), json!(1), Value::Null));
    assert_eq!(ids("/v1/organizations?q=acme&limit=2"), ("acme acme-eu".into(), json!(3), json!("acme-eu")));
    assert_eq!(
        ids("/v1/organizations?q=acme&limit=2&cursor=acme-eu"),
        ("zeta".into(), json!(3), Value::Null)
    );
    let long = "x".repeat(201);
    let refused = client.get(&format!("/v1/organizations?q={long}&limit=0&x=1")).expect(422).json();
    assert_eq!(refused["errors"].as_array().unwrap().len(), 3, "{refused}");
    let (_, token) = fixture::root_key(&client, &["organizations:read"], Some("acme"));
    let bound = client.with_token(&token);
    assert_eq!(bound.get("/v1/organizations?q=acme").expect(200).json()["total"], 1);
    assert_eq!(bound.get("/v1/organizations?q=zeta").expect(200).json()["total"], 0);
}

#[test]
fn lists_can_be_filtered_by_bound_organization() {
    let server = Server::start();
    let client = server.client();
    let (one, other) = (organization(&client, "paid"), organization(&client, "paid"));
    for org in [&one, &other] {
        let _ = fixture::application(&client, &["keys:read"], Some(org));
        let _ = fixture::root_key(&client, &["admin"], Some(org));
        let _ = fixture::portal_link(&client, org, "auditor", json!({}));
    }
    let _ = fixture::application(&client, &["keys:read"], None);
    let (_, token) = fixture::root_key(&client, &["admin"], Some(&other));
    let bound = client.with_token(&token);
    for (path, all, of_other) in [("applications", 3, 1), ("root-keys", 4, 2), ("portal-sessions", 2, 1)] {
        let list = |client: &keyledger_tests::client::http::Client, query: &str| {
            client.get(&format!("/v1/{path}{query}")).expect(200).json()
        };
        assert_eq!(list(&client, "")["total"], all, "{path}");
        let narrowed = list(&client, &format!("?organization_id={one}"));
        assert_eq!(narrowed["total"], 1, "{path}");
        assert_eq!(narrowed["data"][0]["organization_id"], json!(one));
        assert_eq!(list(&bound, "")["total"], of_other, "{path}");
        assert_eq!(list(&bound, &format!("?organization_id={one}"))["total"], 0, "{path}: of another");
        client.get(&format!("/v1/{path}?organization_id=a%20b")).expect(422);
    }
}
