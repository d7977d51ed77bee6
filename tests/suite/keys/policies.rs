//! Policies: what an organization demands of its keys, and the report of keys that violate them.

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{self, api, key, key_body, organization, text};
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

fn path(organization: &str) -> String {
    format!("/v1/organizations/{organization}/policies/production")
}

#[track_caller]
fn set(client: &Client, organization: &str, policy: Value) -> u64 {
    client.put(&path(organization), &policy).expect(200).position()
}

/// The pointers of a refusal by a policy.
#[track_caller]
fn pointers(answer: &Value) -> Vec<String> {
    assert_eq!(answer["code"], "policy_violation", "{answer}");
    answer["errors"].as_array().unwrap().iter().map(|error| text(&error["pointer"])).collect()
}

#[track_caller]
fn refused(client: &Client, organization: &str, more: Value) -> Vec<String> {
    pointers(&client.post("/v1/keys", &key_body(organization, more)).expect(422).json())
}

#[test]
fn a_policy_is_set_shown_and_removed() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let path = path(&organization);
    assert_eq!(client.get(&path).expect(404).json()["code"], "policy_not_found");
    assert_eq!(client.delete(&path).expect(404).json()["code"], "policy_not_found");
    let policy = json!({
        "max_lifetime_seconds": 7_776_000, "expiry_required": true, "max_keys_per_user": 5,
        "allowed_scopes": ["read:users"], "name_required": true,
    });
    let set = client.put(&path, &policy).expect(200);
    let shown = set.json();
    for member in policy.as_object().unwrap().keys() {
        assert_eq!(shown[member], policy[member], "{member}");
    }
    assert_eq!(
        (&shown["organization_id"], &shown["environment"]),
        (&json!(organization), &json!("production"))
    );
    assert_eq!(client.get(&path).expect(200).json(), shown);
    assert_eq!(client.put(&path, &policy).expect(200).position(), set.position(), "nothing changes");
    // An omitted rule no longer applies.
    let less = client.put(&path, &json!({ "name_required": true })).expect(200).json();
    assert_eq!((&less["expiry_required"], &less["allowed_scopes"]), (&json!(false), &Value::Null));
    client.delete(&path).expect(204);
    assert_eq!(client.get(&path).send().status, 404);

    let wrong =
        json!({ "max_lifetime_seconds": -1, "name_required": "yes", "allowed_scopes": "all", "x": 1 });
    let answer = client.put(&path, &wrong).expect(422).json();
    let wrong: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|it| text(&it["pointer"])).collect();
    assert_eq!(wrong, ["/max_lifetime_seconds", "/allowed_scopes", "/name_required", "/x"]);
    let nowhere = format!("/v1/organizations/{organization}/policies/staging");
    assert_eq!(client.put(&nowhere, &json!({})).send().status, 404);
    assert_eq!(client.put("/v1/organizations/nobody/policies/preview", &json!({})).send().status, 404);

    let events =
        client.get(&format!("/v1/events?organization_id={organization}&limit=200")).expect(200).json();
    let events = events["data"].as_array().unwrap();
    let types: Vec<_> = events.iter().map(|event| text(&event["type"])).collect();
    assert_eq!(types, ["OrganizationCreated", "PolicySet", "PolicySet", "PolicyRemoved"]);
    assert_eq!(events[1]["data"]["policy"], policy);
}

#[test]
fn a_key_that_violates_the_policy_is_refused_with_all_violations() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let api = api(&client, &["read:users", "write:users"]);
    set(
        &client,
        &organization,
        json!({ "max_lifetime_seconds": 8_100_000, "allowed_scopes": ["read:users"], "name_required": true }),
    );
    let scopes = json!({ "api_id": api, "scopes": ["read:users", "write:users"] });
    assert_eq!(refused(&client, &organization, scopes), ["/expires_at", "/scopes/1", "/name"]);
    let preset = json!({ "name": "n", "expires_in": "one_year" });
    assert_eq!(refused(&client, &organization, preset), ["/expires_in"]);
    let late = json!({ "name": "n", "expires_at": "2999-01-01T00:00:00Z" });
    assert_eq!(refused(&client, &organization, late), ["/expires_at"]);
    // The policy is for production only.
    client
        .post("/v1/keys", &json!({ "organization_id": organization, "environment": "preview" }))
        .expect(201);
    let good = json!({
        "name": "n", "expires_in": "three_months", "api_id": api, "scopes": ["read:users"],
    });
    let good = key(&client, &organization, good);

    let edit = |change: Value| pointers(&client.patch(&good.path(""), &change).expect(422).json());
    assert_eq!(edit(json!({ "name": null, "expires_at": null })), ["/expires_at", "/name"]);
    assert_eq!(edit(json!({ "scopes": ["write:users"] })), ["/scopes/0"]);
    client.patch(&good.path(""), &json!({ "name": "other", "scopes": [] })).expect(200);

    // Existing keys stay, and allow changes that violate nothing. Rotation is always allowed.
    set(&client, &organization, json!({ "expiry_required": true, "max_lifetime_seconds": 60 }));
    client.patch(&good.path(""), &json!({ "description": "still here" })).expect(200);
    client.post(&good.path("/rotate"), &json!({})).expect(200);
    client.post(&good.path("/revoke"), &json!({})).expect(200);
    client.post(&good.path("/reactivate"), &json!({})).expect(200);
    client.delete(&path(&organization)).expect(204);
    let _ = key(&client, &organization, json!({}));
}

#[test]
fn a_user_has_no_more_active_keys_than_the_policy_allows() {
    let mut server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let of = |client: &Client, user: &str| key(client, &organization, json!({ "user_id": user }));
    let before = of(&client, "ada");
    set(&client, &organization, json!({ "max_keys_per_user": 2 }));
    let second = of(&client, "ada");
    let of_ada = || json!({ "user_id": "ada" });
    assert_eq!(refused(&client, &organization, of_ada()), ["/user_id"]);
    let _ = (of(&client, "bob"), key(&client, &organization, json!({})));
    // A revoked key makes room, and may then not be reactivated.
    client.post(&before.path("/revoke"), &json!({})).expect(200);
    let third = of(&client, "ada");
    let back = client.post(&before.path("/reactivate"), &json!({})).expect(422).json();
    assert_eq!(pointers(&back), ["/user_id"]);
    for kill in [true, false] {
        if kill {
            server.kill()
        } else {
            assert!(server.stop().success())
        }
        server.start_again();
        assert_eq!(refused(&server.client(), &organization, of_ada()), ["/user_id"]);
    }
    let client = server.client();
    client.delete(&third.path("")).expect(204);
    client.post(&before.path("/reactivate"), &json!({})).expect(200);
    assert_eq!(refused(&client, &organization, of_ada()), ["/user_id"]);
    client.delete(&second.path("")).expect(204);

    // Concurrent requests get no more than sequential ones.
    let granted: usize = std::thread::scope(|scope| {
        let ask = || {
            let answer = client.post("/v1/keys", &key_body(&organization, of_ada())).send();
            assert!(matches!(answer.status, 201 | 422), "{}", answer.text());
            usize::from(answer.status == 201)
        };
        let running: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(granted, 1);
}

#[test]
fn the_report_lists_the_keys_that_violate_a_policy() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let report = |query: &str, position: u64| {
        let path = format!("/v1/organizations/{organization}/policy-violations{query}");
        client.get(&path).header("keyledger-min-position", &position.to_string()).expect(200).json()
    };
    let good = key(&client, &organization, json!({ "name": "n", "expires_in": "one_month" }));
    let bare = key(&client, &organization, json!({ "user_id": "ada" }));
    let second =
        key(&client, &organization, json!({ "name": "n", "expires_in": "one_month", "user_id": "ada" }));
    let gone = key(&client, &organization, json!({}));
    client.delete(&gone.path("")).expect(204);
    assert_eq!(report("", second.position)["total"], 0, "without a policy, no key violates one");

    let policy = json!({ "expiry_required": true, "name_required": true, "max_keys_per_user": 1 });
    let position = set(&client, &organization, policy);
    let found = report("", position);
    assert_eq!(found["total"], 2);
    let entry = |index: usize| {
        let entry = &found["data"][index];
        let pointers = entry["violations"].as_array().unwrap().iter().map(|it| text(&it["pointer"]));
        (text(&entry["key"]["id"]), pointers.collect::<Vec<_>>())
    };
    assert_eq!(entry(0), (bare.id.clone(), vec!["/expires_at".into(), "/name".into()]));
    assert_eq!(entry(1), (second.id.clone(), vec!["/user_id".into()]));
    let first = report("?limit=1", position);
    assert_eq!((&first["data"][0]["key"]["id"], &first["total"]), (&json!(bare.id), &json!(2)));
    let rest = report(&format!("?limit=1&cursor={}", text(&first["next_cursor"])), position);
    assert_eq!((&rest["data"][0]["key"]["id"], &rest["next_cursor"]), (&json!(second.id), &Value::Null));
    assert_eq!(report("?environment=preview", position)["total"], 0);

    let end = json!({ "name": "n", "expires_at": good.key["expires_at"] });
    client.patch(&bare.path(""), &end).expect(200);
    let position = client.post(&second.path("/revoke"), &json!({})).expect(200).position();
    assert_eq!(report("", position)["total"], 0);

    let other = fixture::organization(&client, "paid");
    let (_, stranger) = fixture::root_key(&client, &["admin"], Some(&other));
    let stranger = server.anonymous().with_token(&stranger);
    for path in [path(&organization), format!("/v1/organizations/{organization}/policy-violations")] {
        assert_eq!(stranger.get(&path).send().status, 404);
    }
}
