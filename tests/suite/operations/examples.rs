//! The programs in `examples/`, run as a reader of the documentation runs them.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::Server;
use serde_json::json;

/// An example that runs longer than this is killed.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// Runs an example to its end and returns its output.
#[track_caller]
fn run(name: &str, change: impl FnOnce(&mut Command)) -> String {
    let directory = tempfile::tempdir().unwrap();
    let (output, errors) = (directory.path().join("output"), directory.path().join("errors"));
    let mut command = Command::new(binaries::path(name));
    command
        .stdin(Stdio::null())
        .stdout(File::create(&output).unwrap())
        .stderr(File::create(&errors).unwrap());
    change(&mut command);
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + RUN_LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            break child.wait().unwrap();
        }
        thread::sleep(Duration::from_millis(3));
    };
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    assert!(status.success(), "{name}: {status}: {}{}", text(&output), text(&errors));
    text(&output)
}

#[test]
fn the_embedded_engine_verifies_and_revokes_a_key() {
    let output = run("embed", |_| {});
    let verdicts: Vec<_> = output.lines().filter_map(|line| line.strip_prefix("verification: ")).collect();
    assert_eq!(verdicts, ["VALID", "REVOKED"], "{output}");
}

#[test]
fn the_added_projection_counts_keys() {
    let output = run("add_a_projection", |_| {});
    assert_eq!(output, "acme: 3 keys\nglobex: 2 keys\n");
}

#[test]
fn the_follower_resumes_after_the_last_event() {
    let server = Server::start();
    let client = server.client();
    for name in ["acme", "globex", "initech", "umbrella"] {
        let body = json!({ "id": name, "name": name, "kind": "paid" });
        client.post("/v1/organizations", &body).expect(201);
    }
    let page = client.get("/v1/events?limit=4").expect(200).json();
    let events = page["data"].as_array().unwrap();
    let expected: Vec<String> = events
        .iter()
        .map(|event| {
            let (event_type, stream) = (event["type"].as_str().unwrap(), &event["stream"]["id"]);
            format!("{} {event_type} {}", event["position"], stream.as_str().unwrap())
        })
        .collect();
    let directory = tempfile::tempdir().unwrap();
    // Every run but the first finds the position of the last event in the file.
    let follow = || {
        let output = run("follow_events", |command| {
            command
                .arg(format!("http://{}", client.address()))
                .args([directory.path().join("position").to_str().unwrap(), "2"])
                .env("KEYLEDGER_TOKEN", server.root_token());
        });
        output.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(follow(), expected[..2]);
    assert_eq!(follow(), expected[2..]);
}
