//! No caller reaches into another organization: not with its identifiers in a path, a query or a body, nor
//! with similar ones.

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{
    access_token, application, code, key, organization, portal_link, root_key, signed_in, text,
};
use keyledger_tests::processes::server::Server;
use keyledger_tests::seed;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// An organization with one object of every kind in it.
struct Target {
    id: String,
    things: Vec<String>,
    token: String,
}

fn target(client: &Client) -> Target {
    let id = organization(client, "partner");
    let customer = organization(client, "free");
    client.put(&format!("/v1/organizations/{id}/clients/{customer}"), &json!({})).expect(200);
    let issued = key(client, &id, json!({ "name": "Secret project", "user_id": "u1" }));
    let things = vec![
        id.clone(),
        customer.clone(),
        issued.id.clone(),
        key(client, &id, json!({ "owner": "client", "client_organization_id": customer })).id,
        application(client, &["admin"], Some(&id)).id,
        root_key(client, &["admin"], Some(&id)).0,
        portal_link(client, &id, "owner", json!({})).0,
    ];
    Target { id, things, token: issued.token }
}

/// Everything that an administrator of the installation sees of the target.
fn state(client: &Client, target: &Target) -> Vec<Value> {
    let paths = ["/v1/keys", "/v1/organizations", "/v1/applications", "/v1/root-keys", "/v1/portal-sessions"];
    let mut seen: Vec<Value> = Vec::new();
    for thing in &target.things {
        seen.extend(
            paths.iter().map(|path| client.get(&format!("{path}/{thing}")).send().json()["version"].clone()),
        );
    }
    let events = client.get(&format!("/v1/events?organization_id={}&limit=200", target.id));
    let position = client.get("/v1/keys/key_x").send().header("keyledger-position").map(str::to_owned);
    let events = match position {
        Some(position) => events.header("keyledger-min-position", &position).expect(200),
        None => events.expect(200),
    };
    seen.push(events.json()["total"].clone());
    seen
}

fn strangers(client: &Client) -> Vec<(String, Client)> {
    let own = organization(client, "partner");
    let mut strangers = vec![
        ("a bound root key".to_owned(), client.with_token(&root_key(client, &["admin"], Some(&own)).1)),
        (
            "a bound application".to_owned(),
            client.with_token(&access_token(client, &application(client, &["admin"], Some(&own)))),
        ),
    ];
    for role in ["owner", "admin", "member", "auditor"] {
        strangers.push((format!("a session of role {role}"), signed_in(client, &own, role)));
    }
    strangers
}

/// Variations of an identifier of the target.
fn resembling(id: &str, rng: &mut StdRng) -> String {
    let mut chars: Vec<char> = id.chars().collect();
    let index = rng.random_range(0..chars.len());
    match rng.random_range(0..8_u8) {
        0 => chars[index] = char::from(b'0' + rng.random_range(0..10_u8)),
        1 => chars.insert(index, 'A'),
        2 => drop(chars.remove(index)),
        3 => return id.to_lowercase(),
        4 => return format!("{id}%20"),
        5 => return format!("%2e%2e%2f{id}"),
        6 => return id.split_once('_').map_or_else(|| id.to_uppercase(), |(_, ulid)| format!("key_{ulid}")),
        _ => return format!("{id}%00"),
    }
    chars.into_iter().collect()
}

#[test]
fn no_identifier_in_a_path_opens_anything() {
    let server = Server::start();
    let client = server.client();
    let target = target(&client);
    let strangers = strangers(&client);
    let document = client.get("/openapi.json").expect(200).json();
    let before = state(&client, &target);
    let mut rng = seed::rng("strangers");
    let mut wrong = Vec::new();
    let mut count = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        if !path.contains('{') || path.starts_with("/problems") || path.starts_with("/log") {
            continue;
        }
        for method in item.as_object().unwrap().keys() {
            for thing in &target.things {
                for id in [thing.clone(), resembling(thing, &mut rng), resembling(thing, &mut rng)] {
                    let parts =
                        path.split('/').map(|part| if part.starts_with('{') { id.as_str() } else { part });
                    let called = parts.collect::<Vec<_>>().join("/");
                    for (name, stranger) in &strangers {
                        let mut request = stranger.request(&method.to_uppercase(), &called);
                        if matches!(method.as_str(), "post" | "put" | "patch") {
                            request = request.json(&if method == "patch" {
                                json!({ "name": "x" })
                            } else {
                                json!({})
                            });
                        }
                        let answer = request.send();
                        count += 1;
                        // 403 where the role lacks the endpoint entirely, 422 for a query in a path without
                        // parameters.
                        if !matches!(answer.status, 403 | 404) || answer.text().contains("Secret project") {
                            wrong.push(format!("{name}: {method} {called} answers {}", answer.status));
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 2_000, "{count} calls");
    assert_eq!(state(&client, &target), before);
    assert_eq!(code(&client, &target.token), "VALID");
}

#[test]
fn no_identifier_in_a_body_or_query_opens_anything() {
    let server = Server::start();
    let client = server.client();
    let target = target(&client);
    let before = state(&client, &target);
    let (id, token) = (&target.id, &target.token);
    for (name, stranger) in strangers(&client) {
        for (path, body) in [
            ("/v1/keys", json!({ "organization_id": id, "environment": "production" })),
            ("/v1/applications", json!({ "organization_id": id, "permissions": ["keys:read"] })),
            ("/v1/root-keys", json!({ "organization_id": id, "permissions": ["keys:read"] })),
            ("/v1/portal-sessions", json!({ "organization_id": id, "role": "auditor" })),
            ("/v1/keys/find", json!({ "token": token })),
        ] {
            let answer = stranger.post(path, &body).send();
            assert!(matches!(answer.status, 403 | 404), "{name}: {path} answers {}", answer.status);
        }
        for path in [
            format!("/v1/keys?organization_id={id}"),
            format!("/v1/events?organization_id={id}"),
            format!("/v1/events?key_id={}", target.things[2]),
            format!("/v1/events?actor_id={}", target.things[5]),
            "/v1/keys?q=Secret".to_owned(),
            "/v1/keys?user_id=u1".to_owned(),
        ] {
            let answer = stranger.get(&path).send();
            let is_empty = answer.status == 200 && answer.json()["data"] == json!([]);
            assert!(is_empty || matches!(answer.status, 403 | 404), "{name}: {path}: {}", answer.text());
        }
        let verified = stranger.post("/v1/keys/verify", &json!({ "token": token })).send();
        assert!(verified.status == 403 || text(&verified.json()["code"]) == "NOT_FOUND", "{name}");
        let answer = stranger.request("POST", "/oauth2/introspect").form(&[("token", token)]).send();
        assert!(
            answer.status == 403 || answer.json() == json!({ "active": false }),
            "{name}: {}",
            answer.text()
        );
    }
    assert_eq!(state(&client, &target), before);
}
