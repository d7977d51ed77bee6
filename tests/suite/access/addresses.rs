//! Who sees from which addresses others acted.

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{
    access_token, application, events, issued, key, key_body, organization, root_key, signed_in, types,
};
use keyledger_tests::processes::receiver::{self, Receiver};
use keyledger_tests::processes::server::{Options, Server};
use serde_json::{Value, json};

/// Members see the events of their own keys, without the addresses that other callers came from.
#[test]
fn members_do_not_see_the_addresses_of_other_callers() {
    let server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let mine = key(&client, &org, json!({ "user_id": "u1" }));
    let member = signed_in(&client, &org, "member");
    member.patch(&mine.path(""), &json!({ "name": "x" })).expect(200);
    member.post(&mine.path("/rotate"), &json!({})).expect(200);
    let trail = events(&member, &mine.id);
    assert_eq!(types(&trail), ["KeyCreated", "KeyRenamed", "KeyRotated"]);
    let origins = |event: &Value| (event["actor"]["ip"].clone(), event["actor"]["user_agent"].clone());
    assert_eq!(origins(&trail[0]), (Value::Null, Value::Null), "the root key's");
    assert_eq!(origins(&trail[1]).0, "127.0.0.1", "their own");
    assert_eq!(origins(&events(&client, &mine.id)[0]).0, "127.0.0.1");
    for format in ["json", "cloudevents-batch", "ndjson", "csv", "cloudevents", "ocsf"] {
        let file = |caller: &Client, actor: &Value| {
            let path = mine.path(&format!("/events?format={format}&actor_id={}", actor.as_str().unwrap()));
            caller.get(&path).expect(200).text()
        };
        let by_others = file(&member, &trail[0]["actor"]["id"]);
        assert!(by_others.contains(&mine.id) && !by_others.contains("127.0.0.1"), "{format}: {by_others}");
        assert!(file(&client, &trail[0]["actor"]["id"]).contains("127.0.0.1"), "{format}");
        assert!(file(&member, &trail[1]["actor"]["id"]).contains("127.0.0.1"), "{format}");
    }
}

/// Callers that are bound to an organization do not learn from where the installation is operated.
#[test]
fn an_organization_does_not_see_the_addresses_of_operators() {
    let server = Server::start_with(Options { arguments: receiver::arguments(&[]), ..Options::default() });
    let client = server.client();
    let org = organization(&client, "paid");
    let inside = client.with_token(&root_key(&client, &["admin"], Some(&org)).1);
    let (own_app, foreign_app) =
        (application(&client, &["admin"], Some(&org)), application(&client, &["admin"], None));
    let (own_app, foreign_app) = (
        client.with_token(&access_token(&client, &own_app)),
        client.with_token(&access_token(&client, &foreign_app)),
    );
    let (owner, auditor) = (signed_in(&client, &org, "owner"), signed_in(&client, &org, "auditor"));
    let receiver = Receiver::start();
    let all_receiver = Receiver::start();
    let subscribe = |by: &Client, to: &Receiver| {
        let body = json!({ "url": to.url(), "event_types": ["KeyCreated"] });
        by.post("/v1/webhooks", &body).expect(201);
    };
    subscribe(&inside, &receiver);
    subscribe(&client, &all_receiver);
    // Each key by one actor, and whether the organization sees where the actor was.
    let made = [(&client, false), (&foreign_app, false), (&inside, true), (&own_app, true), (&owner, true)]
        .map(|(by, is_seen)| {
            let body = key_body(&org, json!({}));
            let answer = by.post("/v1/keys", &body).header("user-agent", "operator/1").expect(201);
            (issued(&answer), is_seen)
        });
    let is_shown = |event: &Value| {
        let (ip, user_agent) = (&event["actor"]["ip"], &event["actor"]["user_agent"]);
        assert_eq!(ip.is_null(), user_agent.is_null());
        assert!(!event["actor"]["id"].is_null(), "who it was is no secret");
        !ip.is_null()
    };
    let position = made[4].0.position.to_string();
    for (key, is_seen) in &made {
        for (by, expected) in [(&client, true), (&owner, *is_seen), (&auditor, *is_seen), (&inside, *is_seen)]
        {
            let events = by.get(&key.path("/events")).header("keyledger-min-position", &position);
            assert_eq!(is_shown(&events.expect(200).json()["data"][0]), expected);
            let found = by.post("/v1/keys/find", &json!({ "token": key.token })).expect(200).json();
            assert_eq!(is_shown(&found["events"][0]), expected);
            for format in ["json", "cloudevents-batch", "ndjson", "csv", "cloudevents", "ocsf"] {
                let file =
                    by.get(&format!("/v1/events?format={format}&key_id={}", key.id)).expect(200).text();
                assert_eq!(file.contains("operator/1"), expected, "{format}: {file}");
                assert_eq!(file.contains("127.0.0.1"), expected, "{format}: {file}");
            }
        }
        let message = |receiver: &Receiver| receiver.wait_for(1, |it| it.key_id() == key.id)[0].json();
        assert_eq!(is_shown(&message(&receiver)["data"]), *is_seen);
        assert!(is_shown(&message(&all_receiver)["data"]));
    }
    // A stream spares them too.
    let mut stream = auditor.get("/v1/events?type=KeyCreated").header("accept", "text/event-stream").stream();
    for (key, is_seen) in &made {
        let line = stream.next_line_with("data: ").expect("the stream continues");
        let event: Value = serde_json::from_str(&line["data: ".len()..]).unwrap();
        assert_eq!((&event["key_id"], is_shown(&event)), (&json!(key.id), *is_seen));
    }
}
