//! Events as files for other programs: parsed by the libraries that those programs use, resumed where a file
//! was cut off, and limited to what a caller may see.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{self, api, application, key, organization, root_key, text};
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

const FILES: [&str; 4] = ["ndjson", "csv", "cloudevents", "ocsf"];

/// Creates events of every kind of object.
fn history(client: &Client) -> (String, fixture::Issued) {
    let (first, second) = (organization(client, "paid"), organization(client, "partner"));
    let issued = key(client, &first, json!({ "name": "=1+1", "metadata": { "a": [1, null] } }));
    client.patch(&issued.path(""), &json!({ "description": "a\n\"b\";c", "metadata": null })).expect(200);
    client.patch(&issued.path(""), &json!({ "name": null })).expect(200);
    client
        .post(&issued.path("/revoke"), &json!({ "reason": "key_compromise", "note": "found" }))
        .header("user-agent", "=cmd|'/c calc'!A0")
        .expect(200);
    client.post(&issued.path("/reactivate"), &json!({})).expect(200);
    client.post(&issued.path("/rotate"), &json!({})).expect(200);
    let other = key(client, &second, json!({ "name": "other" }));
    client.delete(&other.path("")).expect(204);
    client.put(&format!("/v1/organizations/{second}/clients/{first}"), &json!({})).expect(200);
    client.delete(&format!("/v1/organizations/{second}/clients/{first}")).expect(204);
    let api = api(client, &["read:users"]);
    client.delete(&format!("/v1/apis/{api}")).expect(204);
    let (id, _) = root_key(client, &["keys:verify"], Some(&second));
    client.delete(&format!("/v1/root-keys/{id}")).expect(204);
    let application = application(client, &["keys:read"], None);
    client.delete(&application.path("")).expect(204);
    let person = fixture::signed_in(client, &first, "admin");
    let _ = person.get("/portal/session").send();
    client.delete(&format!("/v1/organizations/{second}")).expect(204);
    caught_up(client);
    (first, issued)
}

/// Waits until every endpoint has everything answered so far. Requests without a filter read the log itself.
#[track_caller]
fn caught_up(client: &Client) {
    let head = client.get("/v1/events?limit=1").expect(200).position().to_string();
    client.get("/v1/events?limit=1").header("keyledger-min-position", &head).expect(200);
}

/// The events of a caller in a format. `query` starts with `&`.
#[track_caller]
fn export(client: &Client, format: &str, query: &str) -> String {
    let answer = client.get(&format!("/v1/events?format={format}{query}")).expect(200);
    let expected = if format == "csv" { "text/csv" } else { "application/x-ndjson" };
    assert!(answer.header("content-type").unwrap().starts_with(expected), "{format}");
    answer.text()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Events of every type by actors of every kind, from the projections' golden files.
fn golden(format: &str) -> String {
    let path = format!("projections/tests/golden/events.{format}");
    fs::read_to_string(binaries::workspace().join(path)).unwrap()
}

/// Runs an independent reader from `tests/readers` on a text.
fn read_by(reader: &str, text: &str) -> Output {
    let python = binaries::workspace().join("tests/tools/bin/python3");
    assert!(python.exists(), "{} is missing: run tests/tools-install.sh test", python.display());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("events");
    fs::write(&file, text).unwrap();
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers").join(reader);
    Command::new(python).arg(reader).arg(file).output().unwrap()
}

#[track_caller]
fn good(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn independent_ocsf_readers_accept_every_event() {
    let server = Server::start();
    let client = server.client();
    let (_, issued) = history(&client);
    let text = export(&client, "ocsf", "");
    let events = lines(&text);
    assert_eq!(good(&read_by("ocsf.py", &text)).trim(), events.len().to_string());
    let golden = golden("ocsf");
    assert_eq!(good(&read_by("ocsf.py", &golden)).trim(), golden.lines().count().to_string());
    let kinds: BTreeSet<String> =
        events.iter().map(|event| fixture::text(&event["entity"]["type"])).collect();
    let all = ["API", "API Key", "Application", "Client Link", "Organization", "Portal Session", "Root Key"];
    assert_eq!(kinds, all.map(String::from).into());
    let of_key: Vec<&Value> = events.iter().filter(|event| event["entity"]["uid"] == issued.id).collect();
    let done: Vec<u64> = of_key.iter().map(|event| event["type_uid"].as_u64().unwrap()).collect();
    assert_eq!(done, [300_401, 300_403, 300_403, 300_403, 300_409, 300_408, 300_403]);
    assert_eq!(of_key[4]["comment"], "found");
    // The reader does reject wrong input.
    for (from, to) in
        [("\"severity_id\":1,", ""), ("\"app_uid\"", "\"app_id\""), ("\"time\":1", "\"time\":\"1\",\"x\":1")]
    {
        assert!(text.contains(from));
        assert!(!read_by("ocsf.py", &text.replace(from, to)).status.success(), "{from}");
    }
}

#[test]
fn independent_cloud_events_readers_accept_every_event() {
    let server = Server::start();
    let client = server.client();
    let _ = history(&client);
    let events = lines(&export(&client, "ndjson", ""));
    let ids: Vec<String> = events.iter().map(|event| text(&event["id"])).collect();
    let file = export(&client, "cloudevents", "");
    assert_eq!(good(&read_by("cloud_events.py", &file)).lines().collect::<Vec<_>>(), ids);
    let golden = golden("cloudevents");
    assert_eq!(good(&read_by("cloud_events.py", &golden)).lines().count(), golden.lines().count());
    let in_file = lines(&file);
    for (event, in_file) in events.iter().zip(&in_file) {
        assert_eq!(in_file["data"], *event);
    }
    // The reader does reject wrong input.
    for (from, to) in [
        ("\"specversion\":\"1.0\",", ""),
        ("\"source\"", "\"src\""),
        ("\"sequence\"", "\"Sequence\""),
        ("Z\",\"seq", "\",\"seq"),
    ] {
        assert!(file.contains(from));
        assert!(!read_by("cloud_events.py", &file.replace(from, to)).status.success(), "{from}");
    }

    // The same as batches, each with a link to the next.
    let (mut path, mut seen) = ("/v1/events?limit=4".to_owned(), Vec::new());
    loop {
        let answer = client.get(&path).header("accept", "application/cloudevents-batch+json").expect(200);
        assert_eq!(answer.header("content-type"), Some("application/cloudevents-batch+json"));
        assert!(answer.position() >= events.len() as u64);
        good(&read_by("cloud_events.py", &answer.text()));
        seen.extend_from_slice(answer.json().as_array().unwrap());
        let Some(link) = answer.header("link") else { break };
        path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
        assert!(path.contains("limit=4"), "{path}");
    }
    assert_eq!(seen, in_file);
}

#[test]
fn an_export_resumes_where_another_was_cut_off() {
    let server = Server::start();
    let client = server.client();
    let _ = history(&client);
    for format in FILES {
        let whole = export(&client, format, "");
        let rest = export(&client, format, "&after=5");
        let header = usize::from(format == "csv");
        let begun: Vec<&str> = whole.lines().take(5 + header).collect();
        let rest: Vec<&str> = rest.lines().skip(header).collect();
        assert_eq!([begun, rest].concat(), whole.lines().collect::<Vec<_>>(), "{format}");
        assert_eq!(export(&client, format, "&limit=3").lines().count(), 3 + header);
    }
}

#[test]
fn an_export_shows_a_bound_caller_its_organization_only() {
    let server = Server::start();
    let client = server.client();
    let (own, issued) = history(&client);
    let other = organization(&client, "paid");
    let hidden = key(&client, &other, json!({ "name": "hidden" }));
    let (_, token) = root_key(&client, &["events:read"], Some(&own));
    caught_up(&client);
    let bound = client.with_token(&token);
    let expected = export(&client, "ndjson", &format!("&organization_id={own}")).lines().count();
    for format in FILES {
        let header = usize::from(format == "csv");
        let text = export(&bound, format, "");
        assert_eq!(text.lines().count(), expected + header, "{format}");
        assert!(text.contains(&issued.id) && !text.contains(&other) && !text.contains("hidden"), "{format}");
        let path = format!("/v1/events?format={format}&organization_id={other}");
        assert_eq!(bound.get(&path).expect(404).code(), "organization_not_found");
        let path = hidden.path(&format!("/events?format={format}"));
        assert_eq!(bound.get(&path).expect(404).code(), "key_not_found");
    }
    let batch = bound.get("/v1/events?format=cloudevents-batch&limit=200").expect(200).json();
    assert_eq!(batch.as_array().unwrap().len(), expected);
}

#[test]
fn events_can_be_filtered_by_request_id() {
    let server = Server::start();
    let client = server.client();
    let (_, issued) = history(&client);
    let answer = client
        .post(&issued.path("/revoke"), &json!({}))
        .header("x-request-id", "the-one-request")
        .expect(200);
    for path in ["/v1/events?".to_owned(), issued.path("/events?")] {
        let page = client
            .get(&format!("{path}request_id=the-one-request"))
            .header("keyledger-min-position", &answer.position().to_string())
            .expect(200)
            .json();
        assert_eq!(page["total"], 1, "{path}");
        assert_eq!(page["data"][0]["position"].as_u64(), Some(answer.position()), "{path}");
        let none = client.get(&format!("{path}request_id=another")).expect(200).json();
        assert_eq!((&none["data"], &none["total"]), (&json!([]), &json!(0)), "{path}");
    }
}

#[test]
fn a_csv_export_contains_no_formula() {
    let server = Server::start();
    let client = server.client();
    let _ = history(&client);
    let file = export(&client, "csv", "");
    assert!(file.contains(",\"'=cmd|'/c calc'!A0\","), "{file}");
    // Every cell is quoted, and no text in one starts like a formula.
    for line in file.lines() {
        let inside = line.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
        assert!(inside.split("\",\"").all(|cell| !cell.starts_with(['=', '+', '-', '@'])), "{line}");
    }
}

#[test]
fn an_unknown_format_is_refused() {
    let server = Server::start();
    let problem = server.client().get("/v1/events?format=xml").expect(422).json();
    assert_eq!(problem["errors"][0]["pointer"], "?format");
    let answer = server.client().get("/v1/events?format=json").header("accept", "image/png").expect(200);
    assert!(answer.header("content-type").unwrap().starts_with("application/json"));
}

fn replay_tool(data: &Path, arguments: &[&str]) -> Output {
    Command::new(binaries::path("replay-tool"))
        .args(["export", "--data"])
        .arg(data)
        .args(arguments)
        .output()
        .expect("the replay tool can be started")
}

#[test]
fn the_replay_tool_exports_the_bytes_that_the_service_returns() {
    let mut server = Server::start();
    let client = server.client();
    let (organization, _) = history(&client);
    let page = client.get("/v1/events?limit=200").expect(200).json();
    let events = page["data"].as_array().unwrap();
    let time = text(&events[events.len() / 2]["time"]);
    // The queries to the service, and the tool's arguments for the same events.
    let questions = [
        (String::new(), vec![]),
        ("&after=7".into(), vec!["--from", "8"]),
        ("&limit=9".into(), vec!["--to", "9"]),
        (format!("&organization_id={organization}"), vec!["--organization", &organization]),
        (format!("&from={time}"), vec!["--from", &time]),
        (format!("&to={time}"), vec!["--to", &time]),
        (format!("&to={time}&after=3&organization_id={organization}"), {
            vec!["--to", &time, "--from", "4", "--organization", &organization]
        }),
    ];
    let mut answers = Vec::new();
    for format in FILES {
        for (query, arguments) in &questions {
            answers.push((format, arguments.clone(), export(&client, format, query)));
        }
    }
    server.stop();
    let data = server.data();
    for (format, arguments, answer) in answers {
        assert!(answer.lines().count() > 2, "{format} {arguments:?}");
        let written = good(&replay_tool(&data, &[&["--format", format], arguments.as_slice()].concat()));
        assert!(written == answer, "{format} {arguments:?}:\n{written}\n{answer}");
    }
}

#[test]
fn the_replay_tool_says_where_to_continue_and_never_overwrites_a_file() {
    let mut server = Server::start();
    let client = server.client();
    let _ = history(&client);
    let whole = export(&client, "csv", "");
    server.stop();
    let data = server.data();
    let directory = tempfile::tempdir().unwrap();
    let name = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (first, second) = (name("first.csv"), name("second.csv"));
    let arguments = ["--format", "csv", "--to", "6", "--output", &first];
    let said = good(&replay_tool(&data, &arguments));
    assert!(said.contains("6 events, up to position 6; continue with --from 7"), "{said}");
    let report = good(&replay_tool(
        &data,
        &["--format", "csv", "--from", "7", "--no-header", "--output", &second, "--json"],
    ));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["ok"], &report["first"]), (&json!(true), &json!(7)));
    assert_eq!(report["events"].as_u64(), Some(whole.lines().count() as u64 - 1 - 6));
    assert_eq!(fs::read_to_string(&first).unwrap() + &fs::read_to_string(&second).unwrap(), whole);

    // One line on standard error that names the problem, and nothing written.
    let refused = [
        (vec!["--format", "csv", "--output", &first], "first.csv: already exists"),
        (vec!["--format", "csv", "--json"], "--output"),
        (vec!["--format", "csv", "--from", "yesterday"], "--from \"yesterday\""),
        (vec!["--format", "csv", "--organization", "no such"], "--organization \"no such\""),
        (vec!["--format", "xml"], "xml"),
    ];
    for (arguments, expected) in refused {
        let output = replay_tool(&data, &arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(line.lines().count() == 1 && line.contains(expected), "{line}");
    }
    let last = whole.lines().count() as u64 - 1;
    let none = replay_tool(&data, &["--format", "ndjson", "--from", &(last + 1).to_string()]);
    assert_eq!(good(&none), "");
}
