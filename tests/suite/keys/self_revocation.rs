//! Revoking a key with its own token.

use keyledger_tests::data::fixture::{code, events, key, organization, types};
use keyledger_tests::data::token;
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

#[test]
fn the_token_alone_is_enough_to_revoke_its_key() {
    let server = Server::start();
    let (client, anonymous) = (server.client(), server.anonymous());
    let issued = key(&client, &organization(&client, "paid"), json!({}));
    let body = json!({ "token": issued.token, "reason": "key_compromise", "note": "found in a repository" });
    let answer = anonymous.post("/v1/keys/self-revoke", &body).header("user-agent", "scanner/2").expect(200);
    assert_eq!(answer.json(), json!({ "revoked": true }));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(code(&client, &issued.token), "REVOKED");
    let trail = events(&client, &issued.id);
    assert_eq!(types(&trail), ["KeyCreated", "KeyRevoked"]);
    assert_eq!(trail[1]["data"], json!({ "reason": "key_compromise", "note": "found in a repository" }));
    let actor = &trail[1]["actor"];
    assert_eq!((&actor["kind"], &actor["id"]), (&json!("key"), &json!(issued.id)));
    assert_eq!((&actor["ip"], &actor["user_agent"]), (&json!("127.0.0.1"), &json!("scanner/2")));
    // A caller with the permission can reactivate it.
    client.post(&issued.path("/reactivate"), &json!({})).expect(200);
    assert_eq!(code(&client, &issued.token), "VALID");
}

#[test]
fn the_answer_reveals_nothing_about_the_token() {
    let server = Server::start();
    let (client, anonymous) = (server.client(), server.anonymous());
    let org = organization(&client, "paid");
    let (revoked, deleted) = (key(&client, &org, json!({})), key(&client, &org, json!({})));
    client.post(&revoked.path("/revoke"), &json!({})).expect(200);
    client.delete(&deleted.path("")).expect(204);
    let unknown = token::unknown("kl", "live");
    let head =
        client.get("/v1/events?sort=-position&limit=1").expect(200).json()["data"][0]["position"].clone();
    for token in [revoked.token.as_str(), &deleted.token, &unknown, "kl_live_x", "", server.root_token()] {
        let answer = anonymous.post("/v1/keys/self-revoke", &json!({ "token": token })).expect(200);
        assert_eq!(answer.json(), json!({ "revoked": true }));
    }
    let last =
        client.get("/v1/events?sort=-position&limit=1").expect(200).json()["data"][0]["position"].clone();
    assert_eq!(last, head, "nothing happened, so nothing is recorded");
    client.get("/v1/keys").expect(200);

    let refused =
        anonymous.post("/v1/keys/self-revoke", &json!({ "reason": "boredom", "more": 1 })).expect(422);
    let pointers: Vec<Value> =
        refused.json()["errors"].as_array().unwrap().iter().map(|it| it["pointer"].clone()).collect();
    assert_eq!(pointers, [json!("/token"), json!("/reason"), json!("/more")]);
}

#[test]
fn a_token_replaced_by_rotation_revokes_nothing() {
    let server = Server::start();
    let (client, anonymous) = (server.client(), server.anonymous());
    let old = key(&client, &organization(&client, "paid"), json!({}));
    let new = client.post(&old.path("/rotate"), &json!({})).expect(200).json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    anonymous.post("/v1/keys/self-revoke", &json!({ "token": old.token })).expect(200);
    assert_eq!(code(&client, &new), "VALID");
    // The previous token during an overlap is as valid as the new one.
    let newest = client.post(&old.path("/rotate"), &json!({ "overlap_seconds": 3600 })).expect(200).json();
    anonymous.post("/v1/keys/self-revoke", &json!({ "token": new })).expect(200);
    assert_eq!(code(&client, newest["token"].as_str().unwrap()), "REVOKED");
}
