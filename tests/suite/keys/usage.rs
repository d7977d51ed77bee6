//! Usage: every verification is counted by key and outcome, through every endpoint and across restarts. A
//! kill loses at most the last second.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use keyledger_tests::client::connection::Connection;
use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{
    self, Issued, follow, key, organization, portal_link, root_key, signed_in, text,
};
use keyledger_tests::data::token;
use keyledger_tests::processes::server::{Options, Server};
use serde_json::{Value, json};

/// The longest time that a crash may lose, as documented.
const LOSS_MAX: Duration = Duration::from_secs(1);

fn usage(client: &Client, id: &str, query: &str) -> Value {
    client.get(&format!("/v1/keys/{id}/usage{query}")).expect(200).json()
}

fn total(client: &Client, id: &str) -> u64 {
    usage(client, id, "")["total"].as_u64().unwrap()
}

fn now() -> DateTime<Utc> {
    Utc::now()
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap_or_else(|| panic!("not a time: {value}")).parse().unwrap()
}

fn shown(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// The usage of everything, tokens of no key included.
fn check_total(client: &Client) {
    let all = client.get("/v1/usage").expect(200).json();
    assert_eq!((&all["key_id"], &all["total"]), (&Value::Null, &json!(15)));
    assert_eq!((&all["outcomes"]["MALFORMED"], &all["outcomes"]["NOT_FOUND"]), (&json!(2), &json!(1)));
    assert_eq!(all["outcomes"]["VALID"], 6);
}

/// The usage of an organization, or of a user's own keys, is the sum over their keys.
fn check_sums(client: &Client, acme: &str, used: &Issued) {
    let acmes = client.get(&format!("/v1/usage?organization_id={acme}")).expect(200).json();
    let useds = usage(client, &used.id, "");
    assert_eq!((&acmes["key_id"], &acmes["organization_id"]), (&Value::Null, &json!(acme)));
    for part in ["total", "outcomes", "data", "last_verified_at", "last_verified_ip"] {
        assert_eq!(acmes[part], useds[part], "{part}");
    }
    let others = key(client, acme, json!({ "user_id": "u2" }));
    assert_eq!(fixture::code(client, &others.token), "VALID");
    let (_, link) = portal_link(client, acme, "owner", json!({}));
    let (cookie, csrf_token) = follow(client, &link);
    let owner = client.with_session(&cookie, &csrf_token);
    let owners = owner
        .get("/v1/usage")
        .header("keyledger-min-position", &others.position.to_string())
        .expect(200)
        .json();
    assert_eq!((&owners["total"], &owners["outcomes"]["VALID"]), (&json!(13), &json!(7)));
    assert_eq!(
        owners["data"].as_array().unwrap().iter().map(|it| it["total"].as_u64().unwrap()).sum::<u64>(),
        13
    );
    let member = signed_in(client, acme, "member");
    assert_eq!(member.get("/v1/usage").expect(200).json()["total"], 12, "of u1's keys");
    assert_eq!(client.get("/v1/usage?organization_id=nobody").expect(200).json()["total"], 0);
}

/// The views of a key have its last verification. The key as of a past time has none.
fn check_views(client: &Client, acme: &str, used: &Issued, idle: &Issued, last: DateTime<Utc>) {
    let listed = client.get(&format!("/v1/keys?organization_id={acme}")).expect(200).json();
    for row in listed["data"].as_array().unwrap() {
        let is_idle = row["id"] == idle.id.as_str();
        assert_eq!(row["last_verified_at"] == Value::Null, is_idle, "{row}");
    }
    assert_eq!(time(&client.get(&used.path("")).expect(200).json()["last_verified_at"]), last);
    let renamed = client.patch(&used.path(""), &json!({ "name": "Other" })).expect(200).json();
    assert_eq!(time(&renamed["last_verified_at"]), last);
    let then = client.get(&used.path(&format!("?at={}", shown(now())))).expect(200).json();
    assert_eq!(then["last_verified_at"], Value::Null);
}

/// Callers of other organizations see nothing.
fn check_strangers(client: &Client, acme: &str, used: &Issued) {
    let other = organization(client, "paid");
    let (_, bound) = root_key(client, &["admin"], Some(&other));
    let bound = client.with_token(&bound);
    assert_eq!(bound.get(&used.path("/usage")).expect(404).code(), "key_not_found");
    let before = total(client, &used.id);
    assert_eq!(fixture::code(&bound, &used.token), "NOT_FOUND");
    assert_eq!(
        total(client, &used.id),
        before,
        "another organization's verification does not count for the key"
    );
    let nothing = bound.get("/v1/usage").expect(200).json();
    assert_eq!((&nothing["total"], &nothing["organization_id"]), (&json!(0), &json!(other)));
    let elsewhere = bound.get(&format!("/v1/usage?organization_id={acme}"));
    assert_eq!(elsewhere.expect(404).code(), "organization_not_found");
    let (_, verifier) = root_key(client, &["keys:verify"], None);
    assert_eq!(client.with_token(&verifier).get(&used.path("/usage")).expect(403).code(), "forbidden");
    client.anonymous().get(&used.path("/usage")).expect(401);
}

#[test]
fn every_verification_counts_for_its_key_and_outcome() {
    let server = Server::start();
    let client = server.client();
    let acme = organization(&client, "paid");
    let api = fixture::api(&client, &["a"]);
    let used = key(&client, &acme, json!({ "api_id": api, "scopes": ["a"], "user_id": "u1" }));
    let idle = key(&client, &acme, json!({}));
    let before = now();
    assert_eq!(used.key["last_verified_at"], Value::Null);
    assert_eq!(usage(&client, &used.id, "")["last_verified_at"], Value::Null);
    assert_eq!(total(&client, &used.id), 0);

    let ask = |more: Value| {
        let mut body = json!({ "token": used.token });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client.post("/v1/keys/verify", &body).expect(200);
    };
    (0..3).for_each(|_| ask(json!({})));
    ask(json!({ "environment": "preview" }));
    ask(json!({ "organization_id": "other" }));
    ask(json!({ "api_id": "other" }));
    ask(json!({ "scopes": ["b"] }));
    // Through the other two endpoints, with tokens of no key among them.
    let strangers = [token::unknown("kl", "live"), "garbage".to_owned(), "more garbage".to_owned()];
    let mut tokens = strangers.to_vec();
    tokens.extend([used.token.clone(), used.token.clone()]);
    client.post("/v1/keys/verify-batch", &json!({ "tokens": tokens })).expect(200);
    client.with_token(&used.token).get("/v1/forward-auth/x").expect(200);
    client.with_token(&used.token).get("/v1/forward-auth?environment=preview").expect(403);
    client.post(&used.path("/revoke"), &json!({})).expect(200);
    ask(json!({}));
    let after = now();

    // Everything answered is counted at once.
    let expected = json!({
        "VALID": 6, "WRONG_ENVIRONMENT": 2, "WRONG_ORGANIZATION": 1, "WRONG_API": 1, "INSUFFICIENT_SCOPE": 1, "REVOKED": 1,
    });
    let seen = usage(&client, &used.id, "");
    assert_eq!((&seen["key_id"], &seen["total"]), (&json!(used.id), &json!(12)));
    assert_eq!(seen["outcomes"], expected);
    assert_eq!(seen["granularity"], "hour");
    assert_eq!(seen["last_verified_ip"], "127.0.0.1");
    let last = time(&seen["last_verified_at"]);
    assert!(before <= last + Duration::from_millis(1) && last <= after, "{before} {last} {after}");
    for query in ["", "?granularity=hour", "?granularity=day"] {
        let seen = usage(&client, &used.id, query);
        // Two if a new hour has started meanwhile.
        let parts = seen["data"].as_array().unwrap();
        assert!((1..=2).contains(&parts.len()), "{seen}");
        assert_eq!(parts.iter().map(|part| part["total"].as_u64().unwrap()).sum::<u64>(), 12);
        let start = time(&parts[0]["start"]);
        assert!(start <= before && before - start < chrono::TimeDelta::days(1), "{seen}");
    }
    // There is nothing before it all, nor from the next hour on.
    let earlier = format!(
        "?from={}&to={}",
        shown(before - chrono::TimeDelta::hours(9)),
        shown(before - chrono::TimeDelta::hours(2))
    );
    assert_eq!(usage(&client, &used.id, &earlier)["data"], json!([]));
    assert_eq!(usage(&client, &used.id, &earlier)["total"], 12);

    check_total(&client);
    check_sums(&client, &acme, &used);
    check_views(&client, &acme, &used, &idle, last);
    check_strangers(&client, &acme, &used);

    client.delete(&used.path("")).expect(204);
    assert_eq!(client.get(&used.path("/usage")).expect(410).code(), "key_deleted");
}

#[test]
fn invalid_usage_queries_are_refused() {
    let server = Server::start();
    let client = server.client();
    let acme = organization(&client, "paid");
    let key = key(&client, &acme, json!({}));
    let days_ago = |days| shown(now() - chrono::TimeDelta::days(days));
    for (query, pointer) in [
        ("granularity=minute".to_owned(), "?granularity"),
        ("from=yesterday".to_owned(), "?from"),
        (format!("to={}", days_ago(91)), "?from"),
        (format!("from={}&to={}", days_ago(1), days_ago(2)), "?from"),
        (format!("from={}", days_ago(32)), "?to"),
        (format!("from={}", days_ago(91)), "?from"),
        (format!("from={}&granularity=day", days_ago(800)), "?from"),
        ("after=1".to_owned(), "?after"),
    ] {
        let problem = client.get(&key.path(&format!("/usage?{query}"))).expect(422).json();
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{query}: {problem}");
    }
    for query in [format!("from={}", days_ago(30)), format!("from={}&granularity=day", days_ago(700))] {
        usage(&client, &key.id, &format!("?{query}"));
    }
    client.get("/v1/keys/key_01KAJX7Q5M3J6S2Y9W8V4T1R0P/usage").expect(404);
}

#[test]
fn unused_keys_are_listed_in_pages_with_a_total() {
    let server = Server::start();
    let client = server.client();
    let acme = organization(&client, "paid");
    let keys: Vec<_> = (0..25).map(|n| key(&client, &acme, json!({ "name": format!("n{n}") }))).collect();
    // The times on both sides are in different milliseconds.
    let separate = || {
        let start = now();
        keyledger_tests::poll::until("the clock to advance", Duration::from_secs(1), || {
            (now() - start > chrono::TimeDelta::milliseconds(2)).then(now)
        })
    };
    for used in keys.iter().step_by(5) {
        assert_eq!(fixture::code(&client, &used.token), "VALID");
    }
    let since = separate();
    let last_position = keys.last().unwrap().position;
    separate();
    for used in keys.iter().skip(1).step_by(5) {
        assert_eq!(fixture::code(&client, &used.token), "VALID");
    }
    let newer = key(&client, &acme, json!({}));
    let walk = |since: DateTime<Utc>| {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!(
                "/v1/keys?organization_id={acme}&unused_since={}&limit=7&sort=created_at{cursor}",
                shown(since)
            );
            let request = client.get(&path).header("keyledger-min-position", &newer.position.to_string());
            let page = request.expect(200).json();
            found.extend(page["data"].as_array().unwrap().iter().map(|row| text(&row["id"])));
            match page["next_cursor"].as_str() {
                None => {
                    assert_eq!(page["total"], found.len());
                    return found;
                }
                Some(next) => cursor = format!("&cursor={next}"),
            }
        }
    };
    // Keys verified before count as unused since then. Keys verified since and the newer key do not.
    let expected: Vec<_> = (0..25).filter(|n| n % 5 != 1).map(|n| keys[n].id.clone()).collect();
    assert_eq!(walk(since), expected);
    let expected: Vec<_> = keys.iter().map(|key| key.id.clone()).chain([newer.id.clone()]).collect();
    assert_eq!(walk(now() + chrono::TimeDelta::hours(1)), expected);
    assert_eq!(walk(time(&keys[0].key["created_at"])), Vec::<String>::new());
    // The next list has it at once.
    assert_eq!(fixture::code(&client, &keys[2].token), "VALID");
    assert!(!walk(since).contains(&keys[2].id));
    assert!(last_position < newer.position);
}

/// Verifies tokens on one connection until `gone` or until the server ends, and counts requests and answers.
fn verify_until<'a>(
    gone: &AtomicBool,
    client: &Client,
    tokens: impl Iterator<Item = &'a str>,
    sent: &AtomicU64,
    answered: &AtomicU64,
) {
    let mut connection = Connection::open(client.address()).unwrap();
    for token in tokens {
        let request = client.post("/v1/keys/verify", &json!({ "token": token })).encode("keep-alive");
        if gone.load(Ordering::SeqCst) || connection.write(&request).is_err() {
            return;
        }
        sent.fetch_add(1, Ordering::SeqCst);
        if connection.read().is_err() {
            return;
        }
        answered.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_stop_loses_nothing_and_a_kill_at_most_a_second() {
    let mut server = Server::start();
    let client = server.client();
    let acme = organization(&client, "paid");
    let keys: Vec<_> = (0..200).map(|_| key(&client, &acme, json!({}))).collect();
    let counted = |server: &Server| {
        let client = server.client();
        keys.iter().map(|key| total(&client, &key.id)).sum::<u64>()
    };
    let mut least = 0;
    for round in 0..4 {
        let gone = AtomicBool::new(false);
        // The answers so far, in slices of the time before the kill.
        let (sent, answered) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut answered_by = Vec::new();
        let client = server.client();
        thread::scope(|scope| {
            for turn in 0..2 {
                let (gone, sent, answered, client, keys) = (&gone, &sent, &answered, &client, &keys);
                let tokens = keys.iter().cycle().skip(turn * 50).map(|key| key.token.as_str());
                scope.spawn(move || verify_until(gone, client, tokens, sent, answered));
            }
            let start = Instant::now();
            let length = Duration::from_millis(1_800 + 270 * round);
            while start.elapsed() < length {
                answered_by.push((Instant::now(), answered.load(Ordering::SeqCst)));
                thread::sleep(Duration::from_millis(20));
            }
            if round % 2 == 0 {
                server.kill();
            } else {
                gone.store(true, Ordering::SeqCst);
            }
        });
        let killed = Instant::now();
        let (sent, answered) = (sent.into_inner(), answered.into_inner());
        assert!(answered > 500, "only {answered} verifications were answered");
        if round % 2 == 0 {
            server.start_again();
            let safe = answered_by.iter().rev().find(|(at, _)| killed - *at >= LOSS_MAX).unwrap().1;
            let found = counted(&server);
            assert!(
                (least + safe..=least + sent).contains(&found),
                "round {round}: {found} counted, {safe} of {sent} could not be lost, {least} before"
            );
            least = found;
        } else {
            server.stop();
            server.start_again();
            least += answered;
            assert_eq!(counted(&server), least, "round {round}");
        }
    }
    let client = server.client();
    let all = client.get("/v1/usage").expect(200).json();
    assert_eq!(all["total"], least, "the total is the sum over the keys");
    let listed = client.get(&format!("/v1/keys?organization_id={acme}&limit=200")).expect(200).json();
    assert!(listed["data"].as_array().unwrap().iter().all(|row| row["last_verified_at"].is_string()));
}

#[test]
fn a_damaged_usage_file_loses_the_counts_only() {
    let mut server = Server::start();
    let client = server.client();
    let acme = organization(&client, "paid");
    let key = key(&client, &acme, json!({}));
    assert_eq!(fixture::code(&client, &key.token), "VALID");
    server.stop();
    let file = server.data().join("usage.redb");
    let whole = std::fs::read(&file).unwrap();
    for damaged in [b"something else".to_vec(), whole[..whole.len() / 3].to_vec()] {
        std::fs::write(&file, &damaged).unwrap();
        server.start_again();
        let client = server.client();
        assert_eq!(fixture::code(&client, &key.token), "VALID");
        assert_eq!(total(&client, &key.id), 1, "counting started from zero");
        assert!(server.output().contains("usage.redb.damaged"), "{}", server.output());
        server.stop();
        assert_eq!(std::fs::read(server.data().join("usage.redb.damaged")).unwrap(), damaged);
    }
    server.start_again();
    assert_eq!(total(&server.client(), &key.id), 1);
}

#[test]
fn trusted_proxies_name_the_callers_address() {
    let ip_after = |arguments: &[&str]| {
        let server = Server::start_with(Options {
            arguments: arguments.iter().map(|it| (*it).to_owned()).collect(),
            ..Options::default()
        });
        let client = server.client();
        let acme = organization(&client, "paid");
        let key = key(&client, &acme, json!({}));
        let body = json!({ "token": key.token });
        let gateway = client.with_token(&key.token);
        let requests = [
            client.post("/v1/keys/verify", &body),
            client.post("/v1/keys/verify-batch", &json!({ "tokens": [key.token] })),
            gateway.get("/v1/forward-auth"),
        ];
        requests.map(|request| {
            request.header("x-forwarded-for", "198.51.100.7").expect(200);
            usage(&client, &key.id, "")["last_verified_ip"].clone()
        })
    };
    assert_eq!(ip_after(&[]), ["127.0.0.1"; 3]);
    assert_eq!(ip_after(&["--trusted-proxy", "127.0.0.0/8"]), ["198.51.100.7"; 3]);
}
