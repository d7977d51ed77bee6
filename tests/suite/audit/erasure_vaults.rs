//! Erasure with another vault beside the log: an older one, none, and one that was put back.

use std::fs;

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{code, key, organization};
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

use super::erasure::{check_erased, erase, good, mark, replay_tool};

/// An older vault beside a newer log contains the destroyed key again. The service destroys it again.
#[test]
fn an_older_vault_does_not_restore_erased_text() {
    let mut server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let made = key(&client, &org, json!({ "user_id": mark("ada"), "name": mark("ada") }));
    let key = (made.id, made.token);
    let data = server.data();
    server.stop();
    let older = fs::read(data.join("vault.redb")).unwrap();
    server.start_again();
    erase(&server.client(), &org, Some("ada"));
    server.stop();
    fs::write(data.join("vault.redb"), &older).unwrap();
    let shown = good(&replay_tool(&["show", &key.0], &data));
    assert!(shown.contains("[erased]") && !shown.contains("ZQXUJ"), "{shown}");
    server.start_again();
    check_erased(&server.client(), &data, "ada", &key);
    server.stop();
    assert_ne!(fs::read(data.join("vault.redb")).unwrap(), older);
    // Without any vault all sealed text reads as erased, and everything else works.
    fs::remove_file(data.join("vault.redb")).unwrap();
    good(&replay_tool(&["verify"], &data));
    server.start_again();
    let shown = server.client().get(&format!("/v1/organizations/{org}")).expect(200).json();
    assert_eq!(shown["name"], Value::Null);
    assert_eq!(code(&server.client(), &key.1), "VALID");
}

/// The list shows what the current vault opens, whichever vault it was built with before.
#[test]
fn a_vault_that_is_put_back_restores_unerased_text() {
    let mut server = Server::start();
    let client = server.client();
    let org = organization(&client, "paid");
    let named = key(&client, &org, json!({ "user_id": mark("ada"), "name": mark("ada") }));
    let data = server.data();
    server.stop();
    let found = |client: &Client| {
        let total =
            |query: &str| client.get(&format!("/v1/keys?{query}")).expect(200).json()["total"].clone();
        let shown = client.get(&named.path("")).expect(200).json()["name"].clone();
        (total("q=zqxuj"), total(&format!("organization_id={org}")), shown)
    };
    let (vault, aside) = (data.join("vault.redb"), data.join("vault.redb.aside"));
    fs::rename(&vault, &aside).unwrap();
    server.start_again();
    assert_eq!(found(&server.client()), (json!(0), json!(1), Value::Null));
    server.stop();
    good(&replay_tool(&["diff"], &data));
    fs::rename(&aside, &vault).unwrap();
    let differs = replay_tool(&["diff"], &data);
    assert_eq!(differs.status.code(), Some(1), "{differs:?}");
    assert!(String::from_utf8_lossy(&differs.stderr).contains("another vault"), "{differs:?}");
    server.start_again();
    assert_eq!(found(&server.client()), (json!(1), json!(1), json!(mark("ada"))));
    server.stop();
    good(&replay_tool(&["diff"], &data));
}
