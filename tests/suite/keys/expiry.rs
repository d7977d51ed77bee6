//! Expiry: evaluated against the clock at every verification, recorded once.

use std::thread;
use std::time::Duration;

use chrono::{DateTime, Months, SecondsFormat, Utc};
use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{self, Issued, code, events, key, organization, text, types};
use keyledger_tests::poll;
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(10);

fn key_that_ends_in(client: &Client, organization: &str, millis: u64) -> (Issued, DateTime<Utc>) {
    let end = Utc::now() + Duration::from_millis(millis);
    let text = end.to_rfc3339_opts(SecondsFormat::Millis, true);
    let issued = key(client, organization, json!({ "expires_at": text }));
    assert_eq!(issued.key["expires_at"], text);
    (issued, text.parse().unwrap())
}

fn expired_events(client: &Client, id: &str) -> Vec<Value> {
    events(client, id).into_iter().filter(|event| event["type"] == "KeyExpired").collect()
}

#[test]
fn the_clock_decides_to_the_millisecond() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let (issued, end) = key_that_ends_in(&client, &organization, 1_500);
    let (mut valid, mut expired) = (0, 0);
    while expired < 20 {
        let before = Utc::now();
        let code = code(&client, &issued.token);
        let after = Utc::now();
        // The server shares our clock. Its evaluation lies between our two readings of it.
        match code.as_str() {
            "VALID" => {
                assert!(before < end, "valid at {before}, after its expiry {end}");
                valid += 1;
            }
            "EXPIRED" => {
                assert!(after >= end, "expired at {after}, before its expiry {end}");
                expired += 1;
            }
            other => panic!("{other}"),
        }
        assert!(Utc::now() < end + Duration::from_secs(10), "never expired");
    }
    assert!(valid > 0);
    assert_eq!(fixture::verify(&client, &issued.token)["key_id"], issued.id);
    assert_eq!(client.get(&issued.path("")).expect(200).json()["status"], "expired");
}

#[test]
fn expiry_is_recorded_exactly_once_by_the_system() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let (issued, end) = key_that_ends_in(&client, &organization, 600);
    let (revoked, _) = key_that_ends_in(&client, &organization, 600);
    client.post(&revoked.path("/revoke"), &json!({})).expect(200);
    let (deleted, _) = key_that_ends_in(&client, &organization, 600);
    client.delete(&deleted.path("")).expect(204);
    for id in [&issued.id, &revoked.id] {
        let recorded = poll::until("KeyExpired", LIMIT, || expired_events(&client, id).pop());
        assert_eq!(recorded["actor"]["kind"], "system");
        assert_eq!(recorded["organization_id"], organization);
        assert!(text(&recorded["time"]).parse::<DateTime<Utc>>().unwrap() >= end);
    }
    // The expiry of a later key shows that the scheduler has passed the others by then.
    let (later, _) = key_that_ends_in(&client, &organization, 300);
    poll::until("KeyExpired of a later key", LIMIT, || expired_events(&client, &later.id).pop());
    assert_eq!(expired_events(&client, &issued.id).len(), 1);
    assert_eq!(expired_events(&client, &revoked.id).len(), 1);
    assert_eq!(types(&events(&client, &deleted.id)), ["KeyCreated", "KeyDeleted"]);
}

#[test]
fn keys_that_expire_while_the_process_is_down_are_recorded() {
    let mut server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let (before, _) = key_that_ends_in(&client, &organization, 300);
    poll::until("KeyExpired before the stop", LIMIT, || expired_events(&client, &before.id).pop());
    let down: Vec<_> = (0..20).map(|n| key_that_ends_in(&client, &organization, 900 + n)).collect();
    let (alive, _) = key_that_ends_in(&client, &organization, 3_600_000);
    assert_eq!(server.stop().code(), Some(0));
    while Utc::now() <= down.last().unwrap().1 {
        thread::sleep(Duration::from_millis(20));
    }
    for _ in 0..2 {
        server.start_again();
        let client = server.client();
        for (issued, _) in &down {
            assert_eq!(code(&client, &issued.token), "EXPIRED");
            poll::until("KeyExpired after downtime", LIMIT, || expired_events(&client, &issued.id).pop());
            assert_eq!(types(&events(&client, &issued.id)), ["KeyCreated", "KeyExpired"]);
        }
        assert_eq!(expired_events(&client, &before.id).len(), 1);
        assert_eq!(code(&client, &alive.token), "VALID");
        server.stop();
    }
    server.start_again();
}

#[test]
fn named_lifetimes_are_calendar_months() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let months = [("one_month", 1), ("three_months", 3), ("six_months", 6), ("one_year", 12)];
    for (name, months) in months {
        let key = key(&client, &organization, json!({ "expires_in": name })).key;
        let created: DateTime<Utc> = text(&key["created_at"]).parse().unwrap();
        let expected = created.checked_add_months(Months::new(months)).unwrap();
        let end: DateTime<Utc> = text(&key["expires_at"]).parse().unwrap();
        // The expiry is counted from reading the request, the creation time is set when it is decided.
        let apart = expected - end;
        assert!((0..2_000).contains(&apart.num_milliseconds()), "{name}: {created} to {end}");
    }
    let key_never = key(&client, &organization, json!({ "expires_in": "never" })).key;
    assert_eq!(key_never["expires_at"], Value::Null);
    let two_weeks = key(&client, &organization, json!({ "expires_in": "two_weeks" })).key;
    let created: DateTime<Utc> = text(&two_weeks["created_at"]).parse().unwrap();
    let end: DateTime<Utc> = text(&two_weeks["expires_at"]).parse().unwrap();
    assert!((0..2_000).contains(&(created + Duration::from_secs(14 * 86_400) - end).num_milliseconds()));
}

#[test]
fn an_expiry_can_be_extended_before_it_passes_but_not_after() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let (prolonged, end) = key_that_ends_in(&client, &organization, 700);
    client.patch(&prolonged.path(""), &json!({ "expires_at": "2099-01-01T00:00:00Z" })).expect(200);
    let (over, _) = key_that_ends_in(&client, &organization, 700);
    poll::until("KeyExpired", LIMIT, || expired_events(&client, &over.id).pop());
    assert!(Utc::now() > end);
    assert_eq!(code(&client, &prolonged.token), "VALID");
    let refused = client.patch(&over.path(""), &json!({ "expires_at": "2099-01-01T00:00:00Z" })).expect(409);
    assert_eq!(refused.code(), "key_expired");
    assert_eq!(expired_events(&client, &prolonged.id).len(), 0);
}

#[test]
fn the_old_token_of_a_rotation_never_outlives_the_key() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let (issued, end) = key_that_ends_in(&client, &organization, 800);
    client.post(&issued.path("/rotate"), &json!({ "overlap_seconds": 3_600 })).expect(200);
    poll::until("the old token to stop", LIMIT, || (code(&client, &issued.token) != "VALID").then_some(()));
    assert!(Utc::now() >= end);
}
