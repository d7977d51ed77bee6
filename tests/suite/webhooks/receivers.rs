//! Webhooks: the messages that receivers get, who may register a webhook, and which addresses are allowed.

use std::thread;
use std::time::{Duration, Instant};

use keyledger_tests::data::fixture::{events, key, organization, root_key, signed_in, text, trail, types};
use keyledger_tests::poll;
use keyledger_tests::processes::receiver::{Answer, Receiver, arguments, webhook};
use keyledger_tests::processes::server::{Options, Server};
use keyledger_tests::processes::tls::Pair;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

fn server(more: &[&str]) -> Server {
    Server::start_with(Options { arguments: arguments(more), ..Options::default() })
}

#[test]
fn the_reference_library_accepts_what_a_receiver_gets() {
    let server = server(&[]);
    let client = server.client();
    let organization = organization(&client, "paid");
    let earlier = key(&client, &organization, json!({ "name": "Earlier" }));
    let receiver = Receiver::start();
    let webhook = webhook(&client, &receiver.url(), json!({}));
    assert!(webhook.id.starts_with("wh_") && webhook.secret.starts_with("whsec_"));
    let issued =
        key(&client, &organization, json!({ "name": "Ünïcode – 🔑", "metadata": { "a": "</script>" } }));
    client.post(&issued.path("/revoke"), &json!({ "reason": "key_compromise" })).expect(200);
    client.delete(&earlier.path("")).expect(204);

    let of_key = receiver.wait_for(2, |it| it.key_id() == issued.id);
    let log = poll::until("the events", LIMIT, || {
        let events = events(&client, &issued.id);
        (events.len() == 2).then_some(events)
    });
    for (received, event) in of_key.iter().zip(&log) {
        let body = received.json();
        assert_eq!(body["data"], *event, "as /v1/events shows it");
        assert_eq!((&body["type"], &body["timestamp"]), (&event["type"], &event["time"]));
        assert_eq!(received.header("webhook-id"), text(&event["id"]));
        assert_eq!(received.header("content-type"), "application/json");
        assert!(received.header("user-agent").starts_with("Keyledger/"));
        assert!(received.is_signed_with(&webhook.secret));
        assert!(!received.is_signed_with("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "another's secret");
        let mut changed = received.clone();
        changed.body = changed.body.replace("Key", "key");
        assert!(!changed.is_signed_with(&webhook.secret), "another body");
    }
    let deleted = receiver.wait_for(1, |it| it.message_type() == "KeyDeleted");
    assert_eq!(deleted[0].key_id(), earlier.id);
    // Events before the registration are not sent, and none is sent twice.
    let all = receiver.received();
    assert_eq!(all.len(), 3, "{all:?}");
    let metrics = client.get("/metrics").expect(200).text();
    assert!(metrics.contains("keyledger_webhook_deliveries_total{outcome=\"delivered\"} 3"), "{metrics}");
    let shown = client.get(&webhook.path("")).expect(200).json();
    assert_eq!(
        (&shown["status"], &shown["pending"], &shown["dead_letters"]),
        (&json!("enabled"), &json!(0), &json!(0))
    );
}

#[test]
fn both_secrets_sign_during_the_overlap() {
    let server = server(&[]);
    let client = server.client();
    let receiver = Receiver::start();
    let webhook = webhook(&client, &receiver.url(), json!({ "event_types": ["OrganizationCreated"] }));
    let rotate = |seconds: u64| {
        let body = json!({ "overlap_seconds": seconds });
        let answer = client.post(&webhook.path("/rotate-secret"), &body).expect(200);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        text(&answer.json()["secret"])
    };
    let tell = |count| {
        let _ = organization(&client, "paid");
        receiver.wait_for(count, |_| true).pop().unwrap()
    };
    let second = rotate(3_600);
    let received = tell(1);
    assert_eq!(received.header("webhook-signature").split(' ').count(), 2);
    assert!(received.is_signed_with(&webhook.secret) && received.is_signed_with(&second));
    let third = rotate(1);
    assert!(client.get(&webhook.path("")).expect(200).json()["previous_secret_valid_until"].is_string());
    let received = tell(2);
    assert!(received.is_signed_with(&second) && received.is_signed_with(&third));
    poll::until("the overlap to be over", LIMIT, || {
        let shown = client.get(&webhook.path("")).expect(200).json();
        shown["previous_secret_valid_until"].is_null().then_some(())
    });
    let received = tell(3);
    assert!(received.is_signed_with(&third) && !received.is_signed_with(&second));
    let fourth = rotate(0);
    let received = tell(4);
    assert!(received.is_signed_with(&fourth) && !received.is_signed_with(&third));
}

#[test]
fn the_life_of_a_webhook_is_recorded() {
    let mut server = server(&[]);
    let client = server.client();
    let receiver = Receiver::start();
    let body = json!({ "url": receiver.url(), "event_types": ["KeyRevoked"] });
    let created = client.post("/v1/webhooks", &body).header("idempotency-key", "one").expect(201);
    let again = client.post("/v1/webhooks", &body).header("idempotency-key", "one").expect(201);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let (created, again) = (created.json(), again.json());
    assert_eq!((&again["webhook"]["id"], &again["secret"]), (&created["webhook"]["id"], &Value::Null));
    let id = text(&created["webhook"]["id"]);
    let path = format!("/v1/webhooks/{id}");
    assert_eq!(client.get("/v1/webhooks").expect(200).json()["total"], 1);
    let edit = json!({ "event_types": [], "url": format!("{}/2", receiver.url()) });
    let edited = client.patch(&path, &edit).header("if-match", "\"1\"").expect(200).json();
    assert_eq!((&edited["version"], &edited["event_types"]), (&json!(3), &json!([])));
    assert_eq!(client.patch(&path, &edit).header("if-match", "\"1\"").expect(412).code(), "version_conflict");
    client.patch(&path, &json!({ "enabled": false })).expect(200);
    assert_eq!(client.get(&path).expect(200).json()["disabled_reason"], "requested");
    assert_eq!(
        client.post(&format!("{path}/redeliver"), &json!({ "after": 0 })).expect(409).code(),
        "webhook_disabled"
    );
    client.patch(&path, &json!({ "enabled": true })).expect(200);
    let rotated =
        text(&client.post(&format!("{path}/rotate-secret"), &json!({})).expect(200).json()["secret"]);

    let tested = client.post(&format!("{path}/test"), &json!({})).expect(200).json();
    assert_eq!(tested, json!({ "delivered": true, "failure": null }));
    let test = receiver.wait_for(1, |it| it.message_type() == "WebhookTest").remove(0);
    assert!(test.path == "/hook/2" && test.is_signed_with(&rotated));

    // The same secrets sign after a restart, and the index matches the log.
    assert_eq!(server.stop().code(), Some(0));
    server.start_again();
    let client = server.client();
    client.post(&format!("{path}/test"), &json!({})).expect(200);
    assert!(receiver.wait_for(2, |it| it.message_type() == "WebhookTest")[1].is_signed_with(&rotated));

    let deleted = client.delete(&path).expect(204);
    assert_eq!(client.delete(&path).expect(410).code(), "webhook_deleted");
    assert_eq!(client.post(&format!("{path}/test"), &json!({})).expect(410).code(), "webhook_deleted");
    assert_eq!(client.get(&path).expect(200).json()["status"], "deleted");
    assert_eq!(client.get("/v1/webhooks/wh_x").expect(404).code(), "webhook_not_found");
    let events = trail(&client, &id, &deleted);
    assert_eq!(
        types(&events),
        [
            "WebhookRegistered",
            "WebhookUrlChanged",
            "WebhookEventTypesChanged",
            "WebhookDisabled",
            "WebhookEnabled",
            "WebhookSecretRotated",
            "WebhookDeleted"
        ]
    );
    let count = receiver.received().len();
    let _ = organization(&client, "paid");
    let witness = webhook(&client, &receiver.url(), json!({}));
    client.post(&witness.path("/test"), &json!({})).expect(200);
    assert_eq!(receiver.received().len(), count + 1, "a deleted webhook receives nothing");
}

#[test]
fn an_organization_sees_and_receives_only_its_own() {
    let server = server(&[]);
    let client = server.client();
    let (one, other) = (organization(&client, "paid"), organization(&client, "paid"));
    let bound = client.with_token(&root_key(&client, &["webhooks:write", "events:read"], Some(&one)).1);
    let (receiver, everywhere) = (Receiver::start(), Receiver::start());
    let own = webhook(&bound, &receiver.url(), json!({}));
    let of_all = webhook(&client, &everywhere.url(), json!({ "event_types": ["KeyCreated"] }));
    assert_eq!(
        bound.get(&own.path("")).expect(200).json()["organization_id"],
        one,
        "bound like the key that created it"
    );
    let refused = bound.post("/v1/webhooks", &json!({ "url": receiver.url(), "organization_id": other }));
    assert_eq!(refused.expect(404).code(), "organization_not_found");
    for path in ["", "/pending", "/dead-letters"] {
        assert_eq!(bound.get(&of_all.path(path)).expect(404).code(), "webhook_not_found");
    }
    assert_eq!(bound.get("/v1/webhooks").expect(200).json()["total"], 1);
    for permissions in [&["webhooks:write"][..], &["events:read"]] {
        let lacking = client.with_token(&root_key(&client, permissions, Some(&one)).1);
        lacking.post("/v1/webhooks", &json!({ "url": receiver.url() })).expect(403);
    }
    let owner = signed_in(&client, &one, "owner");
    assert_eq!(webhook(&owner, &receiver.url(), json!({ "event_types": ["KeyDeleted"] })).id.len(), 29);
    signed_in(&client, &one, "auditor").post("/v1/webhooks", &json!({ "url": receiver.url() })).expect(403);

    let keys = [&other, &one, &other, &one].map(|id| key(&client, id, json!({})).id);
    let heard = everywhere.wait_for(4, |_| true);
    assert_eq!(
        heard.iter().map(|it| it.key_id()).collect::<std::collections::BTreeSet<_>>(),
        keys.clone().into()
    );
    let of_one = receiver.wait_for(2, |it| it.message_type() == "KeyCreated");
    // In any order, because messages are pushed concurrently.
    assert_eq!(
        of_one.iter().map(|it| it.key_id()).collect::<std::collections::BTreeSet<_>>(),
        [keys[1].clone(), keys[3].clone()].into()
    );
    assert!(receiver.received().iter().all(|it| it.json()["data"]["organization_id"] == json!(one)));
}

#[test]
fn messages_go_only_to_allowed_addresses() {
    let server = Server::start();
    let client = server.client();
    for (url, reason) in [
        ("http://example.com/", "https://"),
        ("ftp://example.com/", "https://"),
        ("example.com", "https://"),
        ("https://user:pass@example.com/", "user"),
        ("https://example.com/#x", "fragment"),
        ("https://example.com/ x", "ASCII"),
        ("https://127.0.0.1/", "internal"),
        ("https://127.9.9.9:8443/", "internal"),
        ("https://10.0.0.1/", "internal"),
        ("https://172.16.0.1/", "internal"),
        ("https://192.168.0.1/", "internal"),
        ("https://169.254.169.254/latest/meta-data/", "internal"),
        ("https://100.100.100.200/", "internal"),
        ("https://168.63.129.16/", "internal"),
        ("https://0.0.0.0/", "internal"),
        ("https://255.255.255.255/", "internal"),
        ("https://224.0.0.1/", "internal"),
        ("https://[::1]/", "internal"),
        ("https://[::]/", "internal"),
        ("https://[::ffff:127.0.0.1]/", "internal"),
        ("https://[::ffff:169.254.169.254]/", "internal"),
        ("https://[64:ff9b::7f00:1]/", "internal"),
        ("https://[fd00:ec2::254]/", "internal"),
        ("https://[fe80::1]/", "internal"),
        ("https://[ff02::1]/", "internal"),
    ] {
        let refused = client.post("/v1/webhooks", &json!({ "url": url })).expect(422).json();
        assert_eq!(refused["errors"][0]["pointer"], "/url", "{url}");
        assert!(text(&refused["errors"][0]["detail"]).contains(reason), "{url}: {refused}");
    }
    // Addresses are checked after name resolution. The listener's silence shows that no connection is made.
    let receiver = Receiver::start();
    let arguments = vec!["--webhook-allow-http".to_owned()];
    let server = Server::start_with(Options { arguments, ..Options::default() });
    let client = server.client();
    let port = receiver.url().rsplit(':').next().unwrap().to_owned();
    let mut failures = std::collections::BTreeSet::new();
    for host in ["localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1"] {
        let url = format!("http://{host}:{port}");
        let webhook = webhook(&client, &url, json!({ "event_types": ["KeyDeleted"] }));
        let tested = client.post(&webhook.path("/test"), &json!({})).expect(200).json();
        assert_eq!(tested["delivered"], false, "{host}");
        failures.insert(text(&tested["failure"]));
    }
    let unknown = webhook(&client, "https://nowhere.invalid/", json!({ "event_types": ["KeyDeleted"] }));
    let tested = client.post(&unknown.path("/test"), &json!({})).expect(200).json();
    failures.insert(text(&tested["failure"]));
    // One answer for a name that there is and one that there is not: a caller cannot ask an internal name
    // service which names it knows.
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(failures.iter().all(|failure| failure.contains("no address that webhooks may call")));
    assert_eq!(receiver.received().len(), 0);
}

/// The receiver is another server without that endpoint. Its 404 shows that it was reached.
#[test]
fn a_receivers_certificate_must_be_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let pair = Pair::make(directory.path(), "receiver");
    let certificate = pair.certificate.display().to_string();
    let receiver = Server::start_with(Options {
        arguments: pair.arguments(),
        trusted: Some(pair.certificate.clone()),
        ..Options::default()
    });
    let port = receiver.client().address().port();
    let tested = |environment: Vec<(&'static str, String)>| {
        let server =
            Server::start_with(Options { arguments: arguments(&[]), environment, ..Options::default() });
        let client = server.client();
        let url = format!("https://127.0.0.1:{port}/nowhere");
        let webhook = webhook(&client, &url, json!({ "event_types": ["KeyDeleted"] }));
        text(&client.post(&webhook.path("/test"), &json!({})).expect(200).json()["failure"])
    };
    assert!(tested(vec![("SSL_CERT_FILE", certificate)]).contains("404"));
    assert!(tested(Vec::new()).contains("certificate"), "the authority is unknown");
}

#[test]
fn redirects_are_not_followed() {
    let server = server(&["--webhook-retries", "10ms"]);
    let client = server.client();
    let target = Receiver::start();
    let location = target.url();
    let receiver = Receiver::answering(move |_| Answer {
        status: 307,
        headers: vec![("location", location.clone())],
        ..Answer::default()
    });
    let webhook = webhook(&client, &receiver.url(), json!({ "event_types": ["OrganizationCreated"] }));
    let _ = organization(&client, "paid");
    let letters = poll::until("a dead letter", LIMIT, || {
        let page = client.get(&webhook.path("/dead-letters")).expect(200).json();
        (page["total"] == 1).then_some(page)
    });
    assert!(text(&letters["data"][0]["failure"]).contains("307"), "{letters}");
    assert_eq!((receiver.received().len(), target.received().len()), (2, 0));
}

#[test]
fn a_slow_receiver_delays_no_other() {
    let server = server(&[]);
    let client = server.client();
    let slow =
        Receiver::answering(|_| Answer { status: 204, delay: Duration::from_secs(10), ..Answer::default() });
    let quick = Receiver::start();
    let _ = webhook(&client, &slow.url(), json!({}));
    let _ = webhook(&client, &quick.url(), json!({ "event_types": ["KeyCreated"] }));
    let organization = organization(&client, "paid");
    let begun = Instant::now();
    let issued: Vec<_> = (0..50).map(|_| key(&client, &organization, json!({})).id).collect();
    let heard = quick.wait_for(50, |_| true);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(
        heard.iter().map(|it| it.key_id()).collect::<std::collections::BTreeSet<_>>().len(),
        issued.len()
    );
    assert!(slow.received().len() <= 8, "at most 8 deliveries at a time");
}

#[test]
fn without_the_deliveries_file_old_messages_are_not_sent_again() {
    let mut server = server(&[]);
    let client = server.client();
    let receiver = Receiver::start();
    let webhook = webhook(&client, &receiver.url(), json!({ "event_types": ["OrganizationCreated"] }));
    let _ = organization(&client, "paid");
    let _ = receiver.wait_for(1, |_| true);
    assert_eq!(server.stop().code(), Some(0));
    std::fs::remove_file(server.data().join("webhooks.redb")).unwrap();
    server.start_again();
    let client = server.client();
    let _ = organization(&client, "test");
    assert!(receiver.wait_for(2, |_| true)[1].is_signed_with(&webhook.secret));
    assert_eq!(receiver.received().len(), 2);
    let answer = client.post(&webhook.path("/redeliver"), &json!({ "after": 0 })).expect(200).json();
    assert_eq!(answer["pending"], 0);
    assert_eq!(receiver.wait_for(4, |_| true).len(), 4, "on request, all are sent again");
}

#[test]
fn without_its_key_the_service_reports_lost_secrets() {
    let mut server = server(&[]);
    let client = server.client();
    let receiver = Receiver::start();
    let webhook = webhook(&client, &receiver.url(), json!({ "event_types": ["KeyDeleted"] }));
    server.stop();
    let path = server.data().join("webhook-key");
    let kept = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    server.start_again();
    assert!(server.output().contains("webhook-key"), "{}", server.output());
    server.client().post(&webhook.path("/test"), &json!({})).expect(200);
    assert!(!receiver.wait_for(1, |_| true)[0].is_signed_with(&webhook.secret));
    server.stop();
    std::fs::write(&path, kept).unwrap();
    server.start_again();
    server.client().post(&webhook.path("/test"), &json!({})).expect(200);
    assert!(receiver.wait_for(2, |_| true)[1].is_signed_with(&webhook.secret));
    server.stop();
    std::fs::write(&path, "nonsense").unwrap();
    server.try_start_again().unwrap_err();
    // Leaves a directory that the search for secrets can read.
    thread::yield_now();
}
