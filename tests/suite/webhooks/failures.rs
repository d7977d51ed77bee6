//! Webhooks whose receivers fail, vanish or return: no message is lost, and the messages of one key stay in
//! order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{key, organization, text};
use keyledger_tests::poll;
use keyledger_tests::processes::receiver::{Answer, Received, Receiver, Webhook, arguments, webhook};
use keyledger_tests::processes::server::{Options, Server};
use keyledger_tests::seed;
use rand::RngExt;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

fn server(more: &[&str]) -> Server {
    Server::start_with(Options { arguments: arguments(more), ..Options::default() })
}

fn rename(client: &Client, path: &str, name: &str) {
    client.patch(path, &json!({ "name": name })).expect(200);
}

fn name(received: &Received) -> String {
    received.json()["data"]["data"]["name"].as_str().unwrap_or_default().to_owned()
}

fn until(client: &Client, webhook: &Webhook, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    poll::until(what, LIMIT, || {
        let shown = client.get(&webhook.path("")).expect(200).json();
        is_so(&shown).then_some(shown)
    })
}

#[test]
fn messages_of_one_key_wait_for_each_other_and_others_continue() {
    let server = server(&[]);
    let client = server.client();
    let organization = organization(&client, "paid");
    let [one, other] = [0; 2].map(|_| key(&client, &organization, json!({})));
    let mut refusals = 0;
    let receiver = Receiver::answering(move |received| {
        let is_first = name(received) == "one 1";
        refusals += u8::from(is_first);
        if is_first && refusals <= 2 { 503.into() } else { 204.into() }
    });
    let _ = webhook(&client, &receiver.url(), json!({ "event_types": ["KeyRenamed"] }));
    for step in 1..=3 {
        rename(&client, &one.path(""), &format!("one {step}"));
        rename(&client, &other.path(""), &format!("other {step}"));
    }
    let _ = receiver.wait_for(1, |it| name(it) == "one 3");
    let all = receiver.received();
    let of = |id: &str| all.iter().filter(|it| it.key_id() == id).collect::<Vec<_>>();
    let names = |id: &str| of(id).into_iter().map(name).collect::<Vec<_>>();
    assert_eq!(names(&one.id), ["one 1", "one 1", "one 1", "one 2", "one 3"]);
    assert_eq!(names(&other.id), ["other 1", "other 2", "other 3"]);
    let attempts = of(&one.id);
    let ids: BTreeSet<_> = attempts[..3].iter().map(|it| it.header("webhook-id")).collect();
    assert_eq!(ids.len(), 1, "all attempts have the same id");
    let waits = [attempts[1].at - attempts[0].at, attempts[2].at - attempts[1].at];
    assert!(waits[0] >= Duration::from_millis(50) && waits[1] >= Duration::from_millis(100), "{waits:?}");
    assert!(of(&other.id)[2].at < attempts[2].at, "the other key did not wait");
}

#[test]
fn retry_after_of_a_receiver_is_respected() {
    let server = server(&[]);
    let client = server.client();
    let mut count = 0;
    let receiver = Receiver::answering(move |_| {
        count += 1;
        let headers = vec![("retry-after", "1".to_owned())];
        if count == 1 { Answer { status: 429, headers, ..Answer::default() } } else { 204.into() }
    });
    let _ = webhook(&client, &receiver.url(), json!({ "event_types": ["OrganizationCreated"] }));
    let _ = organization(&client, "paid");
    let came = receiver.wait_for(2, |_| true);
    assert!(came[1].at - came[0].at >= Duration::from_secs(1), "{:?}", came[1].at - came[0].at);
}

#[test]
fn a_receiver_that_answers_gone_is_disabled_until_enabled_again() {
    let server = server(&[]);
    let client = server.client();
    let receiver = Receiver::answering(|_| 410.into());
    let webhook = webhook(&client, &receiver.url(), json!({ "event_types": ["OrganizationCreated"] }));
    let _ = organization(&client, "paid");
    let shown = until(&client, &webhook, "410 to disable", |it| it["status"] == "disabled");
    assert_eq!(shown["disabled_reason"], "gone");
    let _ = organization(&client, "test");
    let _ = organization(&client, "free");
    assert_eq!(receiver.received().len(), 1);
    receiver.answer_with(|_| 200.into());
    client.patch(&webhook.path(""), &json!({ "enabled": true })).expect(200);
    let came = receiver.wait_for(4, |_| true);
    let kinds: Vec<_> = came.iter().map(|it| text(&it.json()["data"]["data"]["kind"])).collect();
    let delivered: BTreeSet<_> = kinds[1..].iter().map(String::as_str).collect();
    assert_eq!(
        (kinds.len(), delivered),
        (4, BTreeSet::from(["paid", "test", "free"])),
        "no message is missing"
    );
}

#[test]
fn a_receiver_that_fails_for_long_is_disabled() {
    let server = server(&[
        "--webhook-retries",
        "50ms,50ms,50ms,50ms,50ms,50ms,50ms",
        "--webhook-disable-after",
        "150ms",
    ]);
    let client = server.client();
    let receiver = Receiver::answering(|_| 500.into());
    let webhook = webhook(&client, &receiver.url(), json!({ "event_types": ["OrganizationCreated"] }));
    let _ = organization(&client, "paid");
    let shown = until(&client, &webhook, "failures to disable", |it| it["status"] == "disabled");
    assert_eq!((&shown["disabled_reason"], &shown["pending"]), (&json!("failing"), &json!(1)));
    assert!(receiver.received().len() > 2);
}

#[test]
fn undelivered_messages_are_kept_and_can_be_redelivered() {
    let server = server(&["--webhook-retries", "20ms,20ms"]);
    let client = server.client();
    let receiver = Receiver::answering(|_| 500.into());
    let webhook = webhook(&client, &receiver.url(), json!({ "event_types": ["KeyRenamed"] }));
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));
    let before = client.get(&issued.path("")).expect(200).position();
    for step in 1..=3 {
        rename(&client, &issued.path(""), &format!("name {step}"));
    }
    until(&client, &webhook, "dead letters", |it| it["dead_letters"] == 3);
    assert_eq!(receiver.received().len(), 9, "three attempts each");
    let page = client.get(&webhook.path("/dead-letters?limit=2")).expect(200).json();
    assert_eq!((page["data"].as_array().unwrap().len(), &page["total"]), (2, &json!(3)));
    let letter = &page["data"][1];
    assert_eq!((&letter["type"], &letter["attempts"]), (&json!("KeyRenamed"), &json!(3)));
    assert!(text(&letter["failure"]).contains("500"), "{letter}");
    let next = format!("/dead-letters?limit=2&cursor={}", text(&page["next_cursor"]));
    assert_eq!(client.get(&webhook.path(&next)).expect(200).json()["data"].as_array().unwrap().len(), 1);

    receiver.answer_with(|_| 204.into());
    let redeliver = webhook.path(&format!("/dead-letters/{}/redeliver", text(&letter["id"])));
    client.post(&redeliver, &json!({})).expect(200);
    let came = receiver.wait_for(10, |_| true).pop().unwrap();
    assert_eq!(
        (name(&came), came.header("webhook-id")),
        ("name 2".into(), letter["webhook_id_header"].as_str().unwrap())
    );
    assert!(came.is_signed_with(&webhook.secret));
    assert_eq!(client.post(&redeliver, &json!({})).expect(404).code(), "dead_letter_not_found");
    until(&client, &webhook, "the letter to go", |it| it["dead_letters"] == 2);

    client.post(&webhook.path("/redeliver"), &json!({ "after": before })).expect(200);
    let all = receiver.wait_for(13, |_| true);
    assert_eq!(all[10..].iter().map(name).collect::<Vec<_>>(), ["name 1", "name 2", "name 3"]);
    until(&client, &webhook, "no dead letters", |it| it["dead_letters"] == 0 && it["pending"] == 0);
}

#[test]
fn crashes_lose_and_reorder_no_message() {
    let mut rng = seed::rng("webhook crashes");
    let mut server =
        server(&["--webhook-retries", "20ms,40ms,80ms,80ms,80ms,80ms,80ms,80ms,80ms,80ms,80ms,80ms"]);
    let organization = organization(&server.client(), "paid");
    let keys: Vec<_> = (0..6).map(|_| key(&server.client(), &organization, json!({})).path("")).collect();
    let mut flaky = seed::rng("webhook receiver");
    let receiver = Receiver::answering(move |_| if flaky.random_bool(0.3) { 500.into() } else { 204.into() });
    let webhook = webhook(&server.client(), &receiver.url(), json!({ "event_types": ["KeyRenamed"] }));
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for round in 0..4 {
        for step in 0..25 {
            let path = &keys[rng.random_range(0..keys.len())];
            let name = format!("{round}.{step}");
            rename(&server.client(), path, &name);
            expected.entry(path.rsplit('/').next().unwrap().to_owned()).or_default().push(name);
        }
        if round % 2 == 0 {
            server.kill();
        } else {
            assert_eq!(server.stop().code(), Some(0));
        }
        server.start_again();
    }
    let client = server.client();
    until(&client, &webhook, "everything to be delivered", |it| {
        it["pending"] == 0 && receiver.received().iter().any(|it| name(it).starts_with("3."))
    });
    let total: usize = expected.values().map(Vec::len).sum();
    poll::until("all messages", LIMIT, || {
        let ids: BTreeSet<_> =
            receiver.received().iter().map(|it| it.header("webhook-id").to_owned()).collect();
        (ids.len() == total).then_some(())
    });
    // A message may arrive more than once, but never before an earlier one of the same key.
    let mut first: HashMap<String, Vec<String>> = HashMap::new();
    for received in receiver.received() {
        let names = first.entry(received.key_id()).or_default();
        let name = name(&received);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for (key_id, names) in expected {
        assert_eq!(first[&key_id], names, "{key_id}");
    }
}

#[test]
fn a_graceful_stop_repeats_no_message() {
    let mut server = server(&[]);
    let receiver = Receiver::start();
    let webhook =
        webhook(&server.client(), &receiver.url(), json!({ "event_types": ["OrganizationCreated"] }));
    for round in 1..=3 {
        for _ in 0..10 {
            let _ = organization(&server.client(), "paid");
        }
        let _ = receiver.wait_for(round * 10, |_| true);
        assert_eq!(server.stop().code(), Some(0));
        server.start_again();
    }
    until(&server.client(), &webhook, "the queue", |it| it["position"].is_u64() && it["pending"] == 0);
    assert_eq!(receiver.received().len(), 30);
}
