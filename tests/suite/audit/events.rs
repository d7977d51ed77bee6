//! The audit trail: its formats, its filters, following it without gaps, and any key as of a past time.

use std::time::{Duration, Instant};

use keyledger_tests::client::console::Browser;
use keyledger_tests::client::http::Client;
use keyledger_tests::client::stream::Stream;
use keyledger_tests::data::fixture::{self, events, key, organization, text};
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

/// Creates some history: two organizations with keys, one of them changed a few times.
fn history(client: &Client) -> (String, fixture::Issued) {
    let (first, second) = (organization(client, "paid"), organization(client, "test"));
    for n in 0..5 {
        let _ = key(client, &second, json!({ "name": format!("other, \"{n}\"") }));
    }
    let issued = key(client, &first, json!({ "name": "=cmd|'/c calc'!A0", "description": "a\n\"b\",c" }));
    client.patch(&issued.path(""), &json!({ "name": "second" })).expect(200);
    client.post(&issued.path("/revoke"), &json!({ "reason": "superseded" })).expect(200);
    client.post(&issued.path("/reactivate"), &json!({})).expect(200);
    (first, issued)
}

fn positions(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["position"].as_u64().unwrap()).collect()
}

fn json_pages(client: &Client, query: &str, limit: usize) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = client.get(&format!("/v1/events?after={after}&limit={limit}{query}")).expect(200).json();
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= limit);
        if data.is_empty() {
            return all;
        }
        all.extend_from_slice(data);
        after = data.last().unwrap()["position"].as_u64().unwrap();
    }
}

#[test]
fn every_event_has_its_actor_type_time_and_address() {
    let server = Server::start();
    let client = server.client();
    let (organization, issued) = history(&client);
    let answer = client
        .post(&issued.path("/revoke"), &json!({}))
        .header("x-request-id", "req-from-outside")
        .expect(200);
    assert_eq!(answer.header("x-request-id"), Some("req-from-outside"));
    let event = events(&client, &issued.id).pop().unwrap();
    assert_eq!(event["position"].as_u64(), Some(answer.position()));
    assert!(text(&event["id"]).starts_with("evt_"));
    assert_eq!(event["type"], "KeyRevoked");
    assert_eq!(event["organization_id"], organization);
    assert_eq!(event["request_id"], "req-from-outside");
    assert_eq!(event["version"], 5);
    assert_eq!(event["actor"]["kind"], "root_key");
    assert!(event["actor"]["id"].as_str().is_some_and(|it| !it.is_empty()));
    assert!(event.to_string().contains(&issued.id));
    assert!(chrono::DateTime::parse_from_rfc3339(&text(&event["time"])).is_ok());

    let all = json_pages(&client, "", 200);
    let expected: Vec<u64> = (1..=all.len() as u64).collect();
    assert_eq!(positions(&all), expected, "dense from 1");
    assert_eq!(json_pages(&client, "", 3), all, "pages of any size have the same events");
}

#[test]
fn filters_select_by_key_organization_type_actor_and_time() {
    let server = Server::start();
    let client = server.client();
    let (organization, issued) = history(&client);
    let all = json_pages(&client, "", 200);
    let chosen = |matches: &dyn Fn(&Value) -> bool| -> Vec<u64> {
        positions(&all.iter().filter(|event| matches(event)).cloned().collect::<Vec<_>>())
    };
    let check = |query: String, matches: &dyn Fn(&Value) -> bool| {
        let expected = chosen(matches);
        assert!(!expected.is_empty(), "{query}");
        assert_eq!(positions(&json_pages(&client, &query, 2)), expected, "{query}");
    };
    let of_key = positions(&events(&client, &issued.id));
    check(format!("&key_id={}", issued.id), &|it| of_key.contains(&it["position"].as_u64().unwrap()));
    check(format!("&organization_id={organization}"), &|it| it["organization_id"] == organization);
    check("&type=KeyCreated".into(), &|it| it["type"] == "KeyCreated");
    let actor = text(&all.last().unwrap()["actor"]["id"]);
    check(format!("&actor_id={actor}"), &|it| it["actor"]["id"] == actor);
    let time = text(&all[all.len() / 2]["time"]);
    check(format!("&from={time}"), &|it| text(&it["time"]) >= time);
    check(format!("&to={time}"), &|it| text(&it["time"]) < time);
    check(format!("&organization_id={organization}&type=KeyRevoked&from={time}"), &|it| {
        it["organization_id"] == organization && it["type"] == "KeyRevoked" && text(&it["time"]) >= time
    });
    let none = client.get("/v1/events?type=KeyDeleted").expect(200).json();
    assert_eq!(none["data"], json!([]));
}

#[test]
fn ndjson_and_csv_carry_the_same_events() {
    let server = Server::start();
    let client = server.client();
    let (_, issued) = history(&client);
    let all = json_pages(&client, "", 200);
    let answer = client.get("/v1/events").header("accept", "application/x-ndjson").expect(200);
    assert!(answer.header("content-type").unwrap().starts_with("application/x-ndjson"));
    let lines: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, all);

    let answer = client.get("/v1/events").header("accept", "text/csv").expect(200);
    assert!(answer.header("content-type").unwrap().starts_with("text/csv"));
    let rows = csv(&answer.text());
    let column = |name: &str| {
        rows[0].iter().position(|it| it == name).unwrap_or_else(|| panic!("{name}: {:?}", rows[0]))
    };
    assert_eq!(rows.len(), all.len() + 1);
    for (row, event) in rows[1..].iter().zip(&all) {
        assert_eq!(row.len(), rows[0].len(), "{row:?}");
        assert_eq!(row[column("position")], event["position"].to_string());
        assert_eq!(row[column("type")], text(&event["type"]));
        assert_eq!(row[column("time")], text(&event["time"]));
        // A spreadsheet must not read a name as a formula.
        assert!(row.iter().all(|cell| !cell.starts_with(['=', '+', '@', '\t', '\r'])), "{row:?}");
    }
    let of_key = client.get(&issued.path("/events")).header("accept", "application/x-ndjson").expect(200);
    assert_eq!(of_key.text().lines().count(), 4);
}

/// Parses RFC 4180.
fn csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => cell.push(chars.next().unwrap()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            other => cell.push(other),
        }
    }
    assert!(row.is_empty() && cell.is_empty() && !quoted, "the last line ends");
    rows
}

/// A stream that is silent for this long is considered ended.
const FOLLOW_TIME_MAX: Duration = Duration::from_secs(10);

/// Reads one server-sent event and returns its id and data.
fn next_event(stream: &mut Stream) -> Option<(u64, Value)> {
    let (mut id, mut data) = (None, String::new());
    loop {
        let line = stream.next_line()?;
        if let Some(text) = line.strip_prefix("id:") {
            id = text.trim().parse().ok();
        } else if let Some(text) = line.strip_prefix("data:") {
            data.push_str(text.trim_start());
        } else if line.is_empty() && !data.is_empty() {
            return Some((
                id.expect("an event has an id"),
                serde_json::from_str(&data).expect("data is JSON"),
            ));
        }
    }
}

fn follow(client: &Client, path: &str, last_event_id: Option<u64>) -> Stream {
    let mut request = client.get(path).header("accept", "text/event-stream");
    if let Some(id) = last_event_id {
        request = request.header("last-event-id", &id.to_string());
    }
    let stream = request.stream();
    assert_eq!(stream.status, 200);
    let media_type = stream.headers.iter().find(|(name, _)| name == "content-type").unwrap();
    assert!(media_type.1.starts_with("text/event-stream"));
    stream.set_timeout(FOLLOW_TIME_MAX);
    stream
}

#[test]
fn a_follower_sees_every_event_once_across_reconnects() {
    let server = Server::start();
    let client = server.client();
    let (organization, issued) = history(&client);
    let before = json_pages(&client, "", 200);
    let mut stream = follow(&client, "/v1/events?after=0", None);
    for event in &before {
        let (id, data) = next_event(&mut stream).unwrap();
        assert_eq!(Some(id), event["position"].as_u64());
        assert_eq!(&data, event);
    }
    // Live: a new event arrives without another request.
    let began = Instant::now();
    client.patch(&issued.path(""), &json!({ "name": "live" })).expect(200);
    let (id, data) = next_event(&mut stream).unwrap();
    assert_eq!((id, &data["type"]), (before.len() as u64 + 1, &json!("KeyRenamed")));
    assert!(began.elapsed() < Duration::from_secs(5));
    drop(stream);

    // Resumes after a pause in which events happened.
    for n in 0..10 {
        client.patch(&issued.path(""), &json!({ "name": format!("n{n}") })).expect(200);
    }
    let mut stream = follow(&client, "/v1/events", Some(id));
    for n in 1..=10 {
        assert_eq!(next_event(&mut stream).unwrap().0, id + n);
    }
    // `Last-Event-ID` wins over the URL's own `after`, which a browser resends unchanged.
    let mut stream = follow(&client, "/v1/events?after=2", Some(id + 4));
    assert_eq!(next_event(&mut stream).unwrap().0, id + 5);
    // A filtered stream skips the other events.
    let mut stream = follow(&client, &format!("/v1/events?organization_id={organization}&after=0"), None);
    let seen: Vec<u64> = (0..4).map(|_| next_event(&mut stream).unwrap().0).collect();
    let expected = positions(&json_pages(&client, &format!("&organization_id={organization}"), 200));
    assert_eq!(seen, expected[..4]);
    let mut stream = follow(&client, &issued.path("/events?after=0"), None);
    assert_eq!(next_event(&mut stream).unwrap().1["type"], "KeyCreated");
}

#[test]
fn a_follower_gets_as_many_events_as_it_asks_for() {
    let server = Server::start();
    let client = server.client();
    let (_, issued) = history(&client);
    let mut stream = follow(&client, "/v1/events?limit=2", None);
    assert_eq!(next_event(&mut stream).map(|(id, _)| id), Some(1));
    assert_eq!(next_event(&mut stream).map(|(id, _)| id), Some(2));
    assert_eq!(stream.next_line(), None, "the stream ends");
    // Also when the last of them has not happened yet.
    let head =
        client.get("/v1/events?sort=-position&limit=1").expect(200).json()["data"][0]["position"].clone();
    let mut stream = follow(&client, &format!("/v1/events?limit=1&after={head}"), None);
    client.patch(&issued.path(""), &json!({ "name": "the last" })).expect(200);
    assert!(next_event(&mut stream).is_some());
    assert_eq!(stream.next_line(), None, "the stream ends");
}

#[test]
fn a_follower_resumes_exactly_where_a_crash_cut_it_off() {
    let mut server = Server::start();
    let (_, issued) = history(&server.client());
    let mut stream = follow(&server.client(), "/v1/events?after=0", None);
    let mut last = next_event(&mut stream).unwrap().0;
    for round in 0..3 {
        for n in 0..5 {
            let body = json!({ "name": format!("{round}.{n}") });
            let position = server.client().patch(&issued.path(""), &body).expect(200).position();
            while n == 2 && last < position {
                let id = next_event(&mut stream).unwrap().0;
                assert_eq!(id, last + 1);
                last = id;
            }
        }
        server.kill();
        server.start_again();
        stream = follow(&server.client(), "/v1/events", Some(last));
    }
    let end = server.client().patch(&issued.path(""), &json!({ "name": "end" })).expect(200).position();
    while last < end {
        let id = next_event(&mut stream).unwrap().0;
        assert_eq!(id, last + 1);
        last = id;
    }
}

/// Reads a stream to its end, which must come, and returns the last event's position.
fn last_position(stream: &mut Stream) -> u64 {
    let began = Instant::now();
    let last = std::iter::from_fn(|| next_event(stream)).map(|(position, _)| position).last();
    assert!(began.elapsed() < FOLLOW_TIME_MAX / 2, "the stream did not end");
    last.unwrap_or_default()
}

#[test]
fn a_follower_sees_nothing_after_its_credential_has_ended() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));
    let app = fixture::application(&client, &["events:read"], None);
    let bound_app = fixture::application(&client, &["events:read"], Some(&organization));
    let (root_key_id, root_token) = fixture::root_key(&client, &["events:read"], None);
    let (_, bound_root_token) = fixture::root_key(&client, &["events:read"], Some(&organization));
    let (session_id, link) = fixture::portal_link(&client, &organization, "auditor", json!({}));
    let (cookie, csrf_token) = fixture::follow(&client, &link);
    let with_app = |app| client.with_token(&fixture::access_token(&client, app));
    let holders = [
        (client.with_session(&cookie, &csrf_token), format!("/v1/portal-sessions/{session_id}")),
        (client.with_token(&root_token), format!("/v1/root-keys/{root_key_id}")),
        (with_app(&app), app.path("")),
        (with_app(&bound_app), format!("/v1/organizations/{organization}")),
        (client.with_token(&bound_root_token), format!("/v1/organizations/{organization}")),
    ];
    let mut streams: Vec<_> =
        holders.iter().map(|(holder, _)| follow(holder, "/v1/events?after=0", None)).collect();
    let mut still_there = follow(&client, "/v1/events?after=0", None);
    for stream in &mut streams {
        assert!(next_event(stream).is_some());
    }
    let (mut end, mut ended_before) = (0, "");
    for ((_, ended_by), stream) in holders.iter().zip(&mut streams) {
        // The last two end at once.
        if ended_by != ended_before {
            end = client.delete(ended_by).expect(204).position();
            ended_before = ended_by;
        }
        let _ = client.patch(&issued.path(""), &json!({ "name": format!("after {end}") })).send();
        assert!(last_position(stream) < end, "{ended_by}");
    }
    while next_event(&mut still_there).unwrap().0 < end {}
}

#[test]
fn a_follower_sees_nothing_after_signing_out_of_the_console() {
    let server = Server::start();
    let client = server.client();
    let issued = key(&client, &organization(&client, "paid"), json!({}));
    let browser = Browser::sign_in(&client, server.root_token());
    let mut stream = follow(&client.with_session(browser.cookie(), ""), "/v1/events?after=0", None);
    assert!(next_event(&mut stream).is_some());
    let _ = browser.submit("/console/sign-out", &[]).location(303);
    let after = client.patch(&issued.path(""), &json!({ "name": "after" })).expect(200).position();
    assert!(last_position(&mut stream) < after);
}

#[test]
fn a_follower_does_not_delay_a_stop() {
    let mut server = Server::start();
    let client = server.client();
    let _ = organization(&client, "paid");
    let mut stream = follow(&client, "/v1/events?after=0", None);
    assert!(next_event(&mut stream).is_some());
    let began = Instant::now();
    assert_eq!(server.stop().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_key_can_be_read_as_of_a_past_time() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({ "name": "v1" }));
    let mut states = vec![(issued.position, issued.key.clone())];
    let mut note =
        |answer: keyledger_tests::client::http::Response| states.push((answer.position(), answer.json()));
    // Times have milliseconds. A pause keeps two states from sharing one.
    let pause = || std::thread::sleep(Duration::from_millis(5));
    pause();
    note(client.patch(&issued.path(""), &json!({ "name": "v2" })).expect(200));
    pause();
    note(client.post(&issued.path("/revoke"), &json!({})).expect(200));
    pause();
    note(client.post(&issued.path("/reactivate"), &json!({})).expect(200));
    pause();
    let deleted = client.delete(&issued.path("")).expect(204).position();

    let at = |at: &str| client.get(&issued.path(&format!("?at={at}")));
    for (position, state) in &states {
        assert_eq!(&at(&position.to_string()).expect(200).json(), state);
    }
    let last = &states.last().unwrap().1;
    assert_eq!(at(&(deleted - 1).to_string()).expect(200).json(), *last);
    let gone = at(&deleted.to_string()).expect(200).json();
    assert_eq!((&gone["status"], &gone["name"]), (&json!("deleted"), &json!("v2")));
    assert_eq!(at(&(issued.position - 1).to_string()).expect(404).code(), "key_not_found");

    let history = events(&client, &issued.id);
    for ((_, state), event) in states.iter().zip(&history) {
        assert_eq!(&at(&text(&event["time"])).expect(200).json(), state);
    }
    assert_eq!(at("2001-01-01T00:00:00Z").expect(404).code(), "key_not_found");
    assert_eq!(client.get(&issued.path("")).expect(410).code(), "key_deleted");
}

#[test]
fn a_key_read_as_of_a_past_time_has_the_status_of_that_time() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let end = chrono::Utc::now() + Duration::from_millis(400);
    let stamp =
        |time: chrono::DateTime<chrono::Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let issued = key(&client, &organization, json!({ "expires_at": stamp(end) }));
    let status_at =
        |time| client.get(&issued.path(&format!("?at={}", stamp(time)))).expect(200).json()["status"].clone();
    keyledger_tests::poll::until("the end", Duration::from_secs(5), || {
        (chrono::Utc::now() > end).then_some(())
    });
    assert_eq!(status_at(end - Duration::from_millis(1)), "active");
    assert_eq!(status_at(end), "expired");
}
