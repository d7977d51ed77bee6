//! Snapshots of the verification index: saved while commands continue, used at a start after a crash, and
//! free of erased text.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{key, text};
use keyledger_tests::data::large_log::{KeptKey, LargeLog};
use keyledger_tests::data::token;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::{Options, Server};
use keyledger_tests::{poll, seed};
use serde_json::json;

/// More keys than the number from which on snapshots are saved.
const KEYS: usize = 101_000;
const SAVING_TIME_MAX: Duration = Duration::from_secs(60);

fn start() -> (Server, Vec<KeptKey>) {
    let directory = tempfile::tempdir().unwrap();
    let mut log = LargeLog::begin(&directory.path().join("data"), seed::rng("index_snapshot"));
    log.organization("acme", "paid");
    let keys = log.keys("acme", None, KEYS);
    log.finish();
    (Server::start_in(directory, &token::root(), Options::default()).unwrap(), keys)
}

fn snapshot(server: &Server) -> PathBuf {
    server.data().join("projections/verification.snapshot")
}

fn code(client: &Client, token: &str) -> String {
    text(&client.post("/v1/keys/verify", &json!({ "token": token })).expect(200).json()["code"])
}

#[test]
fn a_start_after_a_crash_uses_a_snapshot_saved_under_load() {
    let (mut server, keys) = start();
    let client = server.client();
    let path = |key: &KeptKey, call: &str| format!("/v1/keys/{}{call}", key.id);
    let [revoked, rotated, deleted, same] = [&keys[1], &keys[50], &keys[99], &keys[100]];
    // Commands run until there is a snapshot, and after it.
    let mut before = Vec::new();
    poll::until("a snapshot", SAVING_TIME_MAX, || {
        before.push(key(&client, "acme", json!({})));
        client.post(&path(&keys[2], "/revoke"), &json!({})).expect(200);
        client.post(&path(&keys[2], "/reactivate"), &json!({})).expect(200);
        snapshot(&server).exists().then_some(())
    });
    client.post(&path(revoked, "/revoke"), &json!({})).expect(200);
    let answer = client.post(&path(rotated, "/rotate"), &json!({})).expect(200).json();
    let token = text(&answer["token"]);
    server.transcript().issue(&token);
    client.delete(&path(deleted, "")).expect(204);
    let after = key(&client, "acme", json!({}));
    server.kill();
    server.start_again();
    assert!(
        server.output().contains("restored the verification index from its snapshot"),
        "{}",
        server.output()
    );
    let client = server.client();
    for (token, expected) in [
        (&revoked.token, "REVOKED"),
        (&rotated.token, "NOT_FOUND"),
        (&token, "VALID"),
        (&deleted.token, "NOT_FOUND"),
        (&same.token, "VALID"),
        (&keys[2].token, "VALID"),
        (&before[0].token, "VALID"),
        (&before[before.len() - 1].token, "VALID"),
        (&after.token, "VALID"),
    ] {
        assert_eq!(code(&client, token), expected);
    }
    server.kill();
    let diff = Command::new(binaries::path("replay-tool"))
        .args(["diff", "--data"])
        .arg(server.data())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&diff.stdout).into_owned() + &String::from_utf8_lossy(&diff.stderr);
    assert!(diff.status.success() && said.contains("equals a fresh replay"), "{said}");
}

#[test]
fn an_erasure_deletes_the_snapshot_before_it_is_answered() {
    let (mut server, keys) = start();
    let client = server.client();
    poll::until("a snapshot", SAVING_TIME_MAX, || snapshot(&server).exists().then_some(()));
    let subject = json!({ "organization_id": "acme", "user_id": "somebody" });
    let _ = key(&client, "acme", json!({ "user_id": "somebody" }));
    client.post("/v1/erasures", &json!({ "subject": subject })).expect(201);
    assert!(!snapshot(&server).exists());
    assert_eq!(code(&client, &keys[0].token), "VALID");
    // A snapshot that cannot be read may be from before the erasure.
    server.kill();
    let unfinished = snapshot(&server).with_file_name("verification.snapshot.tmp");
    fs::write(snapshot(&server), "of another version").unwrap();
    fs::write(&unfinished, "cut off").unwrap();
    server.start_again();
    assert!(!snapshot(&server).exists() && !unfinished.exists());
    assert_eq!(code(&server.client(), &keys[0].token), "VALID");
}
