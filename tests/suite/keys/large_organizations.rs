//! One command stops a hundred thousand keys. Their own events follow in batches.

use std::time::{Duration, Instant};

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{events, text, types};
use keyledger_tests::data::large_log::{KeptKey, LargeLog};
use keyledger_tests::data::token;
use keyledger_tests::processes::server::{Options, Server};
use keyledger_tests::{poll, seed};
use serde_json::{Value, json};

const KEYS: usize = 100_000;
/// Fewer for the portfolio. The mechanism is the same, and each `KeyDeleted` takes time.
const CLIENT_KEYS: usize = 20_000;
/// The time limit for the events that follow, for a debug build on a busy machine.
const FOLLOW_LIMIT: Duration = Duration::from_secs(300);

/// The codes of tokens verified for an organization.
fn codes(client: &Client, keys: &[KeptKey], organization: &str) -> Vec<String> {
    let tokens: Vec<&str> = keys.iter().map(|key| key.token.as_str()).collect();
    let question = json!({ "tokens": tokens, "organization_id": organization });
    let answer = client.post("/v1/keys/verify-batch", &question).expect(200).json();
    answer["data"].as_array().unwrap().iter().map(|verdict| text(&verdict["code"])).collect()
}

fn total(client: &Client, organization: &str, status: &str) -> Value {
    client.get(&format!("/v1/keys?organization_id={organization}&status={status}&limit=1")).expect(200).json()
        ["total"]
        .clone()
}

/// The position that a verification is based on.
fn head(client: &Client, key: &KeptKey) -> u64 {
    let answer = client.post("/v1/keys/verify", &json!({ "token": key.token })).expect(200).json();
    assert_eq!(answer["code"], "VALID");
    answer["position"].as_u64().unwrap()
}

/// Issues a command, and checks that every sampled key is refused right after its answer.
#[track_caller]
fn stop(client: &Client, path: &str, keys: &[KeptKey], organization: &str) -> u64 {
    assert!(codes(client, keys, organization).iter().all(|code| code == "VALID"), "before {path}");
    let began = Instant::now();
    let answer = client.delete(path).expect(204);
    let took = began.elapsed();
    let after = codes(client, keys, organization);
    println!("DELETE {path}: all keys stopped in {took:?}");
    assert!(after.iter().all(|code| code == "ORGANIZATION_INACTIVE" || code == "NOT_FOUND"), "{after:?}");
    answer.position()
}

/// Checks that all keys are deleted, each once, caused by the one event.
#[track_caller]
fn check_followed(client: &Client, keys: &[KeptKey], position: u64, cause: &str) {
    let event = client.get(&format!("/v1/events?after={}&limit=1", position - 1)).expect(200).json();
    let event = event["data"][0].clone();
    assert_eq!(event["type"], cause);
    for key in keys {
        let trail = events(client, &key.id);
        assert_eq!(types(&trail), ["KeyCreated", "KeyDeleted"]);
        assert_eq!(trail[1]["causation_id"], event["id"]);
        assert_eq!(trail[1]["actor"]["kind"], "system");
    }
}

#[test]
fn one_command_stops_a_hundred_thousand_keys() {
    let directory = tempfile::Builder::new().prefix("keyledger-test-").tempdir().unwrap();
    let mut log = LargeLog::begin(&directory.path().join("data"), seed::rng("large organizations"));
    log.organization("partner", "partner");
    log.organization("shop", "paid");
    log.organization("large", "paid");
    log.link("partner", "shop");
    let of_client = log.keys("partner", Some("shop"), CLIENT_KEYS);
    let of_organization = log.keys("large", None, KEYS);
    let others = log.keys("partner", None, 1);
    log.finish();
    let server = Server::start_in(directory, &token::root(), Options::default()).unwrap();
    let client = server.client();
    for key in of_client.iter().chain(&of_organization) {
        server.transcript().issue(&key.token);
    }

    let before = head(&client, &others[0]);
    let unlinked = stop(&client, "/v1/organizations/partner/clients/shop", &of_client, "shop");
    let deleted = stop(&client, "/v1/organizations/large", &of_organization, "large");
    assert_eq!(codes(&client, &others, "partner"), ["VALID"]);

    poll::until("every KeyDeleted", FOLLOW_LIMIT, || {
        let left = [total(&client, "partner", "active"), total(&client, "large", "active")];
        (left == [json!(1), json!(0)]).then_some(())
    });
    let page = client.get("/v1/events?type=KeyDeleted&limit=1&after=0").expect(200).json();
    assert!(page["data"][0]["position"].as_u64().unwrap() > unlinked);
    check_followed(&client, &of_client, unlinked, "ClientUnlinked");
    check_followed(&client, &of_organization, deleted, "OrganizationDeleted");
    // The two commands and one deletion per key, and nothing else.
    assert_eq!(head(&client, &others[0]), before + 2 + (KEYS + CLIENT_KEYS) as u64);
    for (keys, organization) in [(&of_client, "shop"), (&of_organization, "large")] {
        assert!(codes(&client, keys, organization).iter().all(|code| code == "NOT_FOUND"));
    }
}
