//! Webhook messages before the expiry of keys.

use std::thread;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{Issued, key, organization, text};
use keyledger_tests::poll;
use keyledger_tests::processes::receiver::{Received, Receiver, arguments, webhook};
use keyledger_tests::processes::server::{Options, Server};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(20);

fn server(times: &str) -> Server {
    Server::start_with(Options { arguments: arguments(&["--expiry-notices", times]), ..Options::default() })
}

fn in_millis(millis: u64) -> String {
    (Utc::now() + Duration::from_millis(millis)).to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn ending(client: &Client, organization: &str, millis: u64) -> Issued {
    key(client, organization, json!({ "name": "Ends soon", "expires_at": in_millis(millis) }))
}

/// The times before the expiry at which the receiver was notified of a key.
fn notified(receiver: &Receiver, id: &str) -> Vec<u64> {
    let of_key: Vec<Received> = receiver.received().into_iter().filter(|it| it.key_id() == id).collect();
    of_key
        .iter()
        .filter(|it| it.message_type() == "KeyExpiringSoon")
        .map(|it| it.json()["data"]["notice_seconds"].as_u64().unwrap())
        .collect()
}

#[test]
fn each_notice_of_a_key_is_sent_once() {
    let server = server("2s,1s,30d");
    let client = server.client();
    let (one, other) = (organization(&client, "paid"), organization(&client, "paid"));
    let receiver = Receiver::start();
    let hook = webhook(
        &client,
        &receiver.url(),
        json!({ "organization_id": one, "event_types": ["KeyExpiringSoon", "KeyExpired"] }),
    );
    let issued = ending(&client, &one, 3_500);
    let moved = ending(&client, &one, 3_500);
    let revoked = ending(&client, &one, 3_500);
    let foreign = ending(&client, &other, 3_500);
    client.post(&revoked.path("/revoke"), &json!({})).expect(200);
    client.patch(&moved.path(""), &json!({ "expires_at": in_millis(3_600_000) })).expect(200);
    let came = receiver.wait_for(3, |it| it.key_id() == issued.id);
    assert_eq!(
        notified(&receiver, &issued.id),
        [2, 1],
        "the notice of 30 days was already past when the expiry was set"
    );
    assert_eq!(came[2].message_type(), "KeyExpired", "after the notices that were due");
    let end: DateTime<Utc> = text(&issued.key["expires_at"]).parse().unwrap();
    for (received, seconds) in came.iter().zip([2, 1]) {
        assert!(received.is_signed_with(&hook.secret));
        let body = received.json();
        let data = &body["data"];
        assert_eq!(data["expires_at"], issued.key["expires_at"]);
        assert_eq!((&data["name"], &data["organization_id"]), (&json!("Ends soon"), &json!(one)));
        let time: DateTime<Utc> = text(&body["timestamp"]).parse().unwrap();
        assert_eq!(end - time, chrono::Duration::seconds(seconds));
    }
    assert_ne!(came[0].header("webhook-id"), came[1].header("webhook-id"));
    for quiet in [&moved.id, &revoked.id, &foreign.id] {
        assert_eq!(notified(&receiver, quiet), Vec::<u64>::new(), "{quiet}");
    }
    // The log has no event for it.
    let types = client.get("/v1/events?limit=200").expect(200).text();
    assert!(!types.contains("KeyExpiringSoon\",\"schema"), "{types}");
    // After an extension, the receiver is notified again before the new expiry.
    client.patch(&moved.path(""), &json!({ "expires_at": in_millis(1_800) })).expect(200);
    poll::until("a message of the new end", LIMIT, || (notified(&receiver, &moved.id) == [1]).then_some(()));
}

#[test]
fn of_the_notices_due_while_down_the_nearest_is_sent() {
    let mut server = server("5s,4s,1s");
    let client = server.client();
    let organization = organization(&client, "paid");
    let receiver = Receiver::start();
    let _ = webhook(&client, &receiver.url(), json!({ "event_types": ["KeyExpiringSoon"] }));
    let first = ending(&client, &organization, 5_300);
    poll::until("the first message", LIMIT, || (notified(&receiver, &first.id) == [5]).then_some(()));
    let (late, over) = (ending(&client, &organization, 6_500), ending(&client, &organization, 5_100));
    // Whether this one is sent before the stop does not matter. It ends while the service is down.
    let before = notified(&receiver, &over.id).len();
    assert!(before <= 1);
    assert_eq!(server.stop().code(), Some(0));
    let end: DateTime<Utc> = text(&late.key["expires_at"]).parse().unwrap();
    while Utc::now() < end - chrono::Duration::milliseconds(3_000) {
        thread::sleep(Duration::from_millis(20));
    }
    server.start_again();
    poll::until("the message of the last time", LIMIT, || {
        (notified(&receiver, &late.id).last() == Some(&1)).then_some(())
    });
    assert_eq!(notified(&receiver, &late.id), [4, 1], "not the notice of 5 s, which is past");
    assert_eq!(notified(&receiver, &first.id).first(), Some(&5));
    let ids: Vec<_> = receiver.received().iter().map(|it| it.header("webhook-id").to_owned()).collect();
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "each once: {ids:?}");
}
