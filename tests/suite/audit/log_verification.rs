//! Verification of the log by the running service, over HTTP and on the console's page.

use std::time::Duration;

use keyledger_tests::client::console::Browser;
use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{code, follow, key, organization, portal_link, root_key};
use keyledger_tests::data::large_log::LargeLog;
use keyledger_tests::data::token;
use keyledger_tests::processes::server::{Options, Server};
use keyledger_tests::{poll, seed};
use serde_json::{Value, json};

const PATH: &str = "/v1/log/verifications";
const LIMIT: Duration = Duration::from_secs(60);

fn latest(client: &Client) -> Value {
    client.get(PATH).expect(200).json()["data"][0].clone()
}

/// Waits for the latest verification to end and returns its result.
pub(crate) fn finished(client: &Client) -> Value {
    poll::until("the end of the verification", LIMIT, || {
        let latest = latest(client);
        (latest["status"] != "running").then_some(latest)
    })
}

/// The size and the root of the newest checkpoint.
fn checkpoint(client: &Client) -> (u64, String) {
    let note = client.get("/log/checkpoint").expect(200).text();
    let mut lines = note.lines().skip(1);
    (lines.next().unwrap().parse().unwrap(), lines.next().unwrap().to_owned())
}

#[test]
fn an_intact_log_is_verified() {
    let server = Server::start();
    let client = server.client();
    assert_eq!(client.get(PATH).expect(200).json()["data"], json!([]));
    let org = organization(&client, "paid");
    let made = key(&client, &org, json!({}));
    poll::until("a checkpoint over all", LIMIT, || (checkpoint(&client).0 == made.position).then_some(()));
    let begun = client.post(PATH, &json!({})).expect(202);
    assert_eq!((begun.header("location"), &begun.json()["number"]), (Some(PATH), &json!(1)));
    let found = finished(&client);
    assert_eq!((&found["status"], &found["reason"]), (&json!("passed"), &Value::Null), "{found}");
    let (size, root) = checkpoint(&client);
    assert_eq!(
        (&found["head"], &found["position"], &found["signed_up_to"]),
        (&json!(size), &json!(size), &json!(size))
    );
    assert_eq!(found["root"], json!(root), "the computed root is the signed one");

    // A caller bound to one organization sees the result, but cannot start a verification.
    let (_, bound) = root_key(&client, &["events:read"], Some(&org));
    let bound = client.with_token(&bound);
    assert_eq!(latest(&bound), found);
    assert_eq!(bound.post(PATH, &json!({})).expect(403).code(), "forbidden");

    let browser = Browser::sign_in(&client, server.root_token());
    let page = browser.get("/console/audit").expect_page(200);
    assert!(page.contains("Verify now") && page.contains("is valid and matches"), "{page}");
    let page = browser.submit_and_follow("/console/audit/verification", &[]);
    assert!(page.contains("Verification started."), "{page}");
    assert_eq!(finished(&client)["number"], 2);
    let (_, link) = portal_link(&client, &org, "auditor", json!({}));
    let auditor = Browser::with_cookie(&client, &follow(&client, &link).0);
    let page = auditor.get("/console/audit").expect_page(200);
    assert!(page.contains("is valid and matches") && !page.contains("Verify now"), "{page}");
    auditor.submit("/console/audit/verification", &[]).expect_page(403);
    assert_eq!(latest(&client)["number"], 2);
}

#[test]
fn one_verification_runs_at_a_time_beside_other_requests() {
    let directory = tempfile::Builder::new().prefix("keyledger-test-").tempdir().unwrap();
    let mut log = LargeLog::begin(&directory.path().join("data"), seed::rng("log verification"));
    log.organization("acme", "paid");
    let kept = log.keys("acme", None, 30_000);
    log.finish();
    let mut server = Server::start_in(directory, &token::root(), Options::default()).unwrap();
    let client = server.client();
    client.post(PATH, &json!({})).expect(202);
    assert_eq!(client.post(PATH, &json!({})).expect(409).code(), "log_verification_running");
    // Keys are verified and created meanwhile. Those created meanwhile are not part of this verification.
    let mut asked = 0;
    let found = poll::until("the end of the verification", LIMIT, || {
        assert_eq!(code(&client, &kept[asked % kept.len()].token), "VALID");
        let _ = key(&client, "acme", json!({}));
        asked += 1;
        let latest = latest(&client);
        assert!(latest["position"].as_u64() <= latest["head"].as_u64(), "{latest}");
        (latest["status"] != "running").then_some(latest)
    });
    assert_eq!(found["status"], "passed", "{found}");
    assert!(asked > 1 && found["head"].as_u64() >= Some(30_001), "{found}");
    // An unfinished verification does not delay a stop.
    client.post(PATH, &json!({})).expect(202);
    assert!(server.stop().success());
}
