//! The life of a key: every cell of the state table, and the effects of each step.

use std::time::Duration;

use keyledger_tests::client::http::{Client, Response};
use keyledger_tests::data::fixture::{self, Issued, code, events, key, organization, text, types};
use keyledger_tests::data::token;
use keyledger_tests::poll;
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

#[test]
fn issuing_returns_the_key_and_its_token_once() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let api = fixture::api(&client, &["read:users", "write:users"]);
    let body = json!({
        "organization_id": organization, "user_id": "user-7", "name": "Production Integration",
        "description": "Nightly export", "environment": "production", "api_id": api,
        "scopes": ["read:users"], "expires_in": "one_month", "metadata": { "team": "billing", "n": 3 },
    });
    let answer = client.post("/v1/keys", &body).expect(201);
    let issued = fixture::issued(&answer);
    token::check(&issued.token, "kl_live_");
    assert_eq!(answer.header("location"), Some(issued.path("").as_str()));
    assert_eq!(answer.header("etag"), Some("\"1\""));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(issued.id.starts_with("key_") && issued.id.len() == 30, "{}", issued.id);

    let key = &issued.key;
    for member in
        ["organization_id", "user_id", "name", "description", "environment", "api_id", "scopes", "metadata"]
    {
        assert_eq!(key[member], body[member], "{member}");
    }
    assert_eq!(key["owner"], "user");
    assert_eq!(key["status"], "active");
    assert_eq!(key["version"], 1);
    assert_eq!(key["revoked_at"], Value::Null);
    assert_eq!(key["start"], issued.token[.."kl_live_".len() + 4]);
    assert_eq!(key["last_four"], issued.token[issued.token.len() - 4..]);
    assert!(key["created_by"].as_str().is_some_and(|it| !it.is_empty()));
    for time in ["created_at", "expires_at"] {
        let time = text(&key[time]);
        assert!(
            time.len() == 24 && time.ends_with('Z') && &time[19..20] == ".",
            "milliseconds in UTC: {time}"
        );
    }

    let read = client.get(&issued.path("")).expect(200);
    assert_eq!(&read.json(), key);
    assert_eq!(read.header("etag"), Some("\"1\""));
    assert!(!read.text().contains(&issued.token));

    let verified = fixture::verify(&client, &issued.token);
    assert_eq!(verified["valid"], true);
    assert_eq!(verified["code"], "VALID");
    assert_eq!(verified["key_id"], key["id"]);
    for member in
        ["organization_id", "user_id", "name", "environment", "api_id", "scopes", "metadata", "expires_at"]
    {
        assert_eq!(verified[member], key[member], "{member}");
    }
    assert!(verified["position"].as_u64().is_some_and(|it| it >= issued.position));
}

#[test]
fn absent_values_are_null_and_preview_tokens_are_marked() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "test");
    let issued = key(&client, &organization, json!({ "environment": "preview" }));
    token::check(&issued.token, "kl_preview_");
    for member in ["user_id", "name", "description", "api_id", "metadata", "expires_at", "revoked_at"] {
        assert_eq!(issued.key.get(member), Some(&Value::Null), "{member}");
    }
    assert_eq!(issued.key["owner"], "organization");
    assert_eq!(issued.key["scopes"], json!([]));
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Active,
    Revoked,
    Expired,
    Deleted,
}

/// A cell of the table: an event, or a refusal.
type Cell = Result<&'static str, (u16, &'static str)>;

const GONE: Cell = Err((410, "key_deleted"));
const EXPIRED: Cell = Err((409, "key_expired"));

/// The documented state table: a command, then its cells for active, revoked, expired, deleted.
const TABLE: [(&str, [Cell; 4]); 7] = [
    ("rename", [Ok("KeyRenamed"), Ok("KeyRenamed"), Ok("KeyRenamed"), GONE]),
    (
        "describe",
        [Ok("KeyDescriptionChanged"), Ok("KeyDescriptionChanged"), Ok("KeyDescriptionChanged"), GONE],
    ),
    ("metadata", [Ok("KeyMetadataChanged"), Ok("KeyMetadataChanged"), Ok("KeyMetadataChanged"), GONE]),
    ("revoke", [Ok("KeyRevoked"), Err((409, "key_already_revoked")), EXPIRED, GONE]),
    ("reactivate", [Err((409, "key_not_revoked")), Ok("KeyReactivated"), EXPIRED, GONE]),
    ("rotate", [Ok("KeyRotated"), Err((409, "key_revoked")), EXPIRED, GONE]),
    ("delete", [Ok("KeyDeleted"), Ok("KeyDeleted"), Ok("KeyDeleted"), GONE]),
];

fn bring_to(client: &Client, organization: &str, state: State) -> Issued {
    let expires_at =
        chrono::Utc::now() + Duration::from_millis(if state == State::Expired { 400 } else { 3_600_000 });
    let expires_at = expires_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let issued = key(client, organization, json!({ "name": "before", "expires_at": expires_at }));
    match state {
        State::Active => {}
        State::Revoked => drop(client.post(&issued.path("/revoke"), &json!({})).expect(200)),
        State::Deleted => drop(client.delete(&issued.path("")).expect(204)),
        State::Expired => poll::until("the key's expiry to be recorded", Duration::from_secs(10), || {
            types(&events(client, &issued.id)).contains(&"KeyExpired").then_some(())
        }),
    }
    issued
}

fn issue_command(client: &Client, issued: &Issued, command: &str) -> Response {
    match command {
        "rename" => client.patch(&issued.path(""), &json!({ "name": "after" })).send(),
        "describe" => client.patch(&issued.path(""), &json!({ "description": "after" })).send(),
        "metadata" => client.patch(&issued.path(""), &json!({ "metadata": { "after": true } })).send(),
        "delete" => client.delete(&issued.path("")).send(),
        _ => client.post(&issued.path(&format!("/{command}")), &json!({})).send(),
    }
}

#[test]
fn every_cell_of_the_state_table_holds() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    for (command, cells) in TABLE {
        for (state, cell) in
            [State::Active, State::Revoked, State::Expired, State::Deleted].into_iter().zip(cells)
        {
            let issued = bring_to(&client, &organization, state);
            let before = events(&client, &issued.id);
            let answer = issue_command(&client, &issued, command);
            let after = events(&client, &issued.id);
            match cell {
                Ok(event) => {
                    let status = if command == "delete" { 204 } else { 200 };
                    assert_eq!(answer.status, status, "{command} when {state:?}: {}", answer.text());
                    assert_eq!(types(&after[before.len()..]), [event], "{command} when {state:?}");
                    let last = after.last().unwrap();
                    assert_eq!(last["position"].as_u64(), Some(answer.position()));
                    assert_eq!(last["version"].as_u64(), Some(after.len() as u64));
                    assert_eq!(last["actor"]["kind"], "root_key");
                }
                Err((status, code)) => {
                    assert_eq!(answer.status, status, "{command} when {state:?}: {}", answer.text());
                    assert_eq!(answer.code(), code, "{command} when {state:?}");
                    assert_eq!(after, before, "a refusal leaves no event: {command} when {state:?}");
                }
            }
        }
    }
}

#[test]
fn a_key_goes_through_its_whole_life() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "partner");
    let issued = key(&client, &organization, json!({ "name": "first" }));
    assert_eq!(code(&client, &issued.token), "VALID");

    let renamed = client.patch(&issued.path(""), &json!({ "name": "second" })).expect(200);
    assert_eq!(renamed.json()["name"], "second");
    assert_eq!(renamed.header("etag"), Some("\"2\""));

    let body = json!({ "reason": "key_compromise", "note": "seen in a public repository" });
    let revoked = client.post(&issued.path("/revoke"), &body).expect(200).json();
    assert_eq!(revoked["status"], "revoked");
    assert!(revoked["revoked_at"].is_string());
    assert_eq!(code(&client, &issued.token), "REVOKED");

    let reactivated = client.post(&issued.path("/reactivate"), &json!({})).expect(200).json();
    assert_eq!((&reactivated["status"], &reactivated["revoked_at"]), (&json!("active"), &Value::Null));
    assert_eq!(code(&client, &issued.token), "VALID");

    let rotated = client.post(&issued.path("/rotate"), &json!({})).expect(200);
    assert_eq!(rotated.header("cache-control"), Some("no-store"));
    let rotated = fixture::issued(&rotated);
    assert_eq!(rotated.id, issued.id);
    assert_eq!(rotated.key["version"], 5);
    assert_eq!(code(&client, &issued.token), "NOT_FOUND");
    assert_eq!(code(&client, &rotated.token), "VALID");

    let deleted = client.delete(&issued.path("")).expect(204);
    assert!(deleted.body.is_empty());
    assert_eq!(code(&client, &rotated.token), "NOT_FOUND");

    let events = events(&client, &issued.id);
    let expected = ["KeyCreated", "KeyRenamed", "KeyRevoked", "KeyReactivated", "KeyRotated", "KeyDeleted"];
    assert_eq!(types(&events), expected);
    assert!(events[2].to_string().contains("key_compromise"), "{}", events[2]);
    assert!(events[2].to_string().contains("seen in a public repository"), "{}", events[2]);
    assert_eq!(events.last().unwrap()["position"].as_u64(), Some(deleted.position()));
}

#[test]
fn an_edit_makes_one_event_per_fact_and_none_when_nothing_changes() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let api = fixture::api(&client, &["a", "b"]);
    let issued = key(&client, &organization, json!({ "name": "n", "api_id": api, "scopes": ["a"] }));
    let same = client.patch(&issued.path(""), &json!({ "name": "n", "scopes": ["a"] })).expect(200);
    assert_eq!(same.json()["version"], 1);
    assert_eq!(client.patch(&issued.path(""), &json!({})).expect(200).json()["version"], 1);

    let all = json!({
        "name": "m", "description": "d\nwith a second line", "scopes": ["b", "a"], "metadata": { "x": [1, null] },
        "expires_at": "2099-01-01T00:00:00+02:00",
    });
    let edited = client.patch(&issued.path(""), &all).expect(200).json();
    assert_eq!(edited["version"], 6);
    assert_eq!(edited["expires_at"], "2098-12-31T22:00:00.000Z");
    for member in ["name", "description", "scopes", "metadata"] {
        assert_eq!(edited[member], all[member], "{member}");
    }
    let nulls = json!({ "name": null, "description": null, "metadata": null, "expires_at": null });
    let cleared = client.patch(&issued.path(""), &nulls).expect(200).json();
    assert_eq!(cleared["version"], 10);
    for member in ["name", "description", "metadata", "expires_at"] {
        assert_eq!(cleared[member], Value::Null, "{member}");
    }
    let mut kinds = types(&events(&client, &issued.id)).iter().map(ToString::to_string).collect::<Vec<_>>();
    kinds.sort();
    kinds.dedup();
    let expected = [
        "KeyCreated",
        "KeyDescriptionChanged",
        "KeyExpiryChanged",
        "KeyMetadataChanged",
        "KeyRenamed",
        "KeyScopesChanged",
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn reordering_scopes_or_members_is_no_change() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let api = fixture::api(&client, &["a", "b", "c"]);
    let metadata: Value = serde_json::from_str(r#"{"x":{"p":1,"q":[1,2]},"y":null}"#).unwrap();
    let reordered: Value = serde_json::from_str(r#"{"y":null,"x":{"q":[1,2],"p":1}}"#).unwrap();
    let issued =
        key(&client, &organization, json!({ "api_id": api, "scopes": ["a", "b"], "metadata": metadata }));
    let same = [json!({ "scopes": ["b", "a"] }), json!({ "scopes": ["b", "a", "b"], "metadata": reordered })];
    for same in same {
        assert_eq!(client.patch(&issued.path(""), &same).expect(200).json()["version"], 1, "{same}");
    }
    for (version, other) in [(2, json!({ "scopes": ["b"] })), (3, json!({ "scopes": ["b", "c"] }))] {
        assert_eq!(client.patch(&issued.path(""), &other).expect(200).json()["version"], version, "{other}");
    }
    let other: Value = serde_json::from_str(r#"{"y":null,"x":{"q":[2,1],"p":1}}"#).unwrap();
    let changed = client.patch(&issued.path(""), &json!({ "metadata": other })).expect(200);
    assert_eq!(changed.json()["version"], 4);

    let api = format!("/v1/apis/{api}");
    let webhook = json!({ "url": "https://example.com/hook", "event_types": ["KeyCreated", "KeyRevoked"] });
    let webhook = client.post("/v1/webhooks", &webhook).expect(201).json();
    let webhook = format!("/v1/webhooks/{}", text(&webhook["webhook"]["id"]));
    let application = fixture::application(&client, &["keys:read", "keys:verify"], None);
    let policy = format!("/v1/organizations/{organization}/policies/preview");
    client.put(&policy, &json!({ "allowed_scopes": ["a", "b"] })).expect(200);
    let before = client.get("/v1/apis").expect(200).position();
    client.patch(&api, &json!({ "scopes": ["c", "a", "b"] })).expect(200);
    client.patch(&webhook, &json!({ "event_types": ["KeyRevoked", "KeyCreated"] })).expect(200);
    client.patch(&application.path(""), &json!({ "permissions": ["keys:verify", "keys:read"] })).expect(200);
    let last = client.put(&policy, &json!({ "allowed_scopes": ["b", "a"] })).expect(200);
    assert_eq!(last.position(), before);
    let changed = client.patch(&api, &json!({ "scopes": ["c", "a"] })).expect(200);
    assert!(changed.position() > before);
}

#[test]
fn the_previous_token_works_during_the_overlap_only() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let first = key(&client, &organization, json!({}));
    let second =
        fixture::issued(&client.post(&first.path("/rotate"), &json!({ "overlap_seconds": 1 })).expect(200));
    assert_eq!(code(&client, &first.token), "VALID");
    assert_eq!(code(&client, &second.token), "VALID");
    poll::until("the overlap to end", Duration::from_secs(5), || {
        (code(&client, &first.token) == "NOT_FOUND").then_some(())
    });
    assert_eq!(code(&client, &second.token), "VALID");

    // During an overlap both tokens belong to the same key, so revoking stops both.
    let third = fixture::issued(
        &client.post(&first.path("/rotate"), &json!({ "overlap_seconds": 3600 })).expect(200),
    );
    client.post(&first.path("/revoke"), &json!({})).expect(200);
    assert_eq!(
        (code(&client, &second.token), code(&client, &third.token)),
        ("REVOKED".into(), "REVOKED".into())
    );
    client.post(&first.path("/reactivate"), &json!({})).expect(200);
    // A rotation without overlap leaves only the new token valid.
    let fourth = fixture::issued(&client.post(&first.path("/rotate"), &json!({})).expect(200));
    for old in [&first, &second, &third] {
        assert_eq!(code(&client, &old.token), "NOT_FOUND");
    }
    assert_eq!(code(&client, &fourth.token), "VALID");
}
