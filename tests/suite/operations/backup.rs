//! Backups of running and stopped services, and restoring them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{Issued, key, organization, root_key};
use keyledger_tests::data::token;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::{Options, Server, free_address};
use keyledger_tests::processes::tls::Pair;
use serde_json::{Value, json};
use tempfile::TempDir;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn tool(arguments: &[&str], token: Option<&str>) -> Command {
    let mut command = Command::new(binaries::path("replay-tool"));
    command
        .args(arguments)
        .env_remove("KEYLEDGER_DATA")
        .env_remove("KEYLEDGER_URL")
        .env_remove("KEYLEDGER_TOKEN");
    if let Some(token) = token {
        command.env("KEYLEDGER_TOKEN", token);
    }
    command
}

/// Runs the replay tool with `--json`.
#[track_caller]
fn run(arguments: &[&str], token: Option<&str>) -> Value {
    let output = tool(arguments, token).arg("--json").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs the replay tool, which must fail with this exit code and one line that contains all of `words`.
#[track_caller]
fn refused(arguments: &[&str], token: Option<&str>, code: i32, words: &[&str]) {
    let output = tool(arguments, token).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(!token.is_some_and(|token| said.contains(token)), "{said}");
}

fn url(server: &Server) -> String {
    format!("http://{}", server.client().address())
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn verification(client: &Client, token: &str) -> String {
    let answer = client.post("/v1/keys/verify", &json!({ "token": token })).expect(200).json();
    answer["code"].as_str().unwrap().to_owned()
}

/// The file names in a directory.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A stopped server with an organization and numbered keys.
fn stopped(keys: usize) -> (Server, Vec<Issued>) {
    let mut server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let keys =
        (0..keys).map(|n| key(&client, &organization, json!({ "name": format!("key {n}") }))).collect();
    server.stop();
    (server, keys)
}

/// Restores a backup beside it and starts a server there.
fn start_restored(backup: &Path, root_token: &str, more: &[&str], log_key: Option<&Path>) -> (Server, Value) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let report = run(&[&["restore", path(backup), "--data", path(&data)], more].concat(), None);
    if let Some(log_key) = log_key {
        fs::copy(log_key, data.join("log-key")).unwrap();
    }
    (Server::start_in(directory, root_token, Options::default()).unwrap(), report)
}

#[test]
fn a_running_service_is_backed_up_under_load() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let named = key_with_idempotency_key(&client, &organization);
    let named_id = named.json()["key"]["id"].clone();
    let before: Vec<Issued> = (0..300).map(|_| key(&client, &organization, json!({}))).collect();
    for issued in before.iter().step_by(2) {
        client.post(&issued.path("/revoke"), &json!({})).expect(200);
    }
    let answered =
        client.get("/v1/events?limit=1&sort=-position").expect(200).json()["data"][0]["position"].as_u64();

    let directory = tempfile::tempdir().unwrap();
    let backups: Vec<PathBuf> = (0..3).map(|n| directory.path().join(format!("{n}.backup"))).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let client = server.client();
                while !stop.load(Ordering::Relaxed) {
                    let issued = key(&client, &organization, json!({ "name": "meanwhile" }));
                    client.post(&issued.path("/revoke"), &json!({})).expect(200);
                }
            });
        }
        let mut head = answered.unwrap();
        for file in &backups {
            let report = run(&["backup", "--url", &url(&server), path(file)], Some(server.root_token()));
            assert!(report["head"].as_u64().unwrap() >= head, "{report}");
            head = report["head"].as_u64().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::metadata(&backups[0]).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(names(directory.path()), ["0.backup", "1.backup", "2.backup"]);

    let log_key = server.data().join("log-key");
    let (mut restored, report) = start_restored(&backups[2], server.root_token(), &[], Some(&log_key));
    let client = restored.client();
    for (index, issued) in before.iter().enumerate() {
        let expected = if index % 2 == 0 { "REVOKED" } else { "VALID" };
        assert_eq!(verification(&client, &issued.token), expected);
    }
    let again = key_with_idempotency_key(&client, &organization);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.json()["key"]["id"], named_id);
    // It is the same log, and continues after the signed checkpoints.
    let _ = key(&client, &organization, json!({ "name": "afterwards" }));
    assert_eq!(client.get("/log/key").expect(200).text(), server.client().get("/log/key").expect(200).text());
    restored.stop();
    let data = restored.data();
    let verified = run(&["verify", "--data", path(&data)], None);
    assert_eq!(verified["signed_up_to"], verified["head"]);
    assert!(verified["head"].as_u64() > report["head"].as_u64());
    assert_eq!(verified["log_id"], report["log_id"]);
    run(&["diff", "--data", path(&data)], None);
}

fn key_with_idempotency_key(client: &Client, organization: &str) -> keyledger_tests::client::http::Response {
    let body = json!({ "organization_id": organization, "environment": "production" });
    client.post("/v1/keys", &body).header("idempotency-key", "once").expect(201)
}

#[test]
fn a_stopped_service_is_restored_byte_by_byte_with_its_keys() {
    let (server, keys) = stopped(300);
    let directory = tempfile::tempdir().unwrap();
    let (file, data) = (directory.path().join("b"), server.data());
    let rotated = Command::new(binaries::path("keyledger"))
        .args(["signing-key", "rotate", "--data", path(&data)])
        .output();
    assert!(rotated.unwrap().status.success());
    let report = run(&["backup", "--data", path(&data), path(&file), "--with-keys"], None);
    assert_eq!(report["keys"], json!(["log-key", "signing-keys.json", "webhook-key"]));
    let verified = run(&["verify", "--data", path(&data)], None);
    assert_eq!((&report["head"], &report["root_hash"]), (&verified["head"], &verified["root_hash"]));

    // An empty directory is accepted.
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("data");
    fs::create_dir(&target).unwrap();
    let restored = run(&["restore", path(&file), "--data", path(&target)], None);
    assert_eq!(restored["root_hash"], verified["root_hash"]);
    assert_eq!(names(place.path()), ["data"]);
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o700);
    for name in ["log-key", "signing-keys.json", "webhook-key", "checkpoints.ndjson"] {
        assert_eq!(fs::read(target.join(name)).unwrap(), fs::read(data.join(name)).unwrap(), "{name}");
        assert_eq!(fs::metadata(target.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    // A backup of the restored directory is equal except for its own time.
    let second = directory.path().join("second");
    let again = run(&["backup", "--data", path(&target), path(&second), "--with-keys"], None);
    assert_eq!(again["bytes"], report["bytes"]);
    let mut restored = Server::start_in(place, server.root_token(), Options::default()).unwrap();
    let client = restored.client();
    assert!(keys.iter().all(|issued| verification(&client, &issued.token) == "VALID"));
    restored.stop();
    run(&["verify", "--data", path(&restored.data())], None);
}

#[test]
fn a_log_is_restored_to_a_position_or_a_time() {
    let (mut server, keys) = stopped(20);
    server.start_again();
    let client = server.client();
    let created = keys[9].key["created_at"].as_str().unwrap().to_owned();
    for issued in &keys {
        client.post(&issued.path("/revoke"), &json!({})).expect(200);
    }
    let (file, log_key) = (server.data().join("../b"), server.data().join("log-key"));
    let root_token = server.root_token().to_owned();
    run(&["backup", "--url", &url(&server), path(&file)], Some(&root_token));

    let position = keys[9].position;
    for (to, until) in [(position.to_string(), position), (created.clone(), position)] {
        let (mut restored, report) = start_restored(&file, &root_token, &["--to", &to], Some(&log_key));
        // Other keys may have been created in the same millisecond.
        let head = report["head"].as_u64().unwrap();
        assert!(head == until || (to == created && head > until), "{to}: {report}");
        let client = restored.client();
        for issued in &keys {
            let expected = if issued.position <= head { "VALID" } else { "NOT_FOUND" };
            assert_eq!(verification(&client, &issued.token), expected, "{to}");
        }
        client.get("/log/checkpoint").expect(200);
        restored.stop();
        run(&["verify", "--data", path(&restored.data())], None);
        // A later checkpoint that was kept reveals the truncation.
        let seen = restored.data().join("../seen");
        fs::write(&seen, server.client().get("/log/checkpoint").expect(200).text()).unwrap();
        let data = restored.data();
        refused(
            &["verify", "--data", path(&data), "--checkpoint", path(&seen)],
            None,
            1,
            &["damaged at position"],
        );
    }
    let target = server.data().join("../restored");
    let restore =
        |to: &'static str| ["restore", path(&file), "--data", path(&target), "--to", to].map(str::to_owned);
    for (to, word) in
        [("999999", "past the end"), ("1970-01-01T00:00:00Z", "no event that old"), ("x", "RFC 3339")]
    {
        let arguments = restore(to);
        refused(&arguments.each_ref().map(String::as_str), None, 2, &["--to", word]);
    }
    assert!(!target.exists());
}

#[test]
fn a_changed_byte_of_a_backup_is_reported_and_leaves_nothing_behind() {
    let (server, _) = stopped(300);
    let directory = tempfile::tempdir().unwrap();
    let (file, changed) = (directory.path().join("b"), directory.path().join("changed"));
    run(&["backup", "--data", path(&server.data()), path(&file)], None);
    let bytes = fs::read(&file).unwrap();
    let target = directory.path().join("data");
    let step = bytes.len() / 23;
    for at in (0..bytes.len()).step_by(step).chain([16, 17, 30, bytes.len() - 40, bytes.len() - 1]) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        fs::write(&changed, bytes).unwrap();
        let restore = ["restore", path(&changed), "--data", path(&target)];
        refused(&restore, None, 1, &[path(&changed), "damaged at byte"]);
        assert_eq!(names(directory.path()), ["b", "changed"], "{at}");
    }
    fs::write(&changed, &bytes[..bytes.len() - 50]).unwrap();
    refused(&["restore", path(&changed), "--data", path(&target)], None, 1, &["ends too early"]);
    let missing = directory.path().join("missing");
    refused(&["restore", path(&missing), "--data", path(&target)], None, 2, &["missing", "check the path"]);
}

#[test]
fn existing_files_are_not_overwritten() {
    let (mut server, _) = stopped(3);
    let directory = tempfile::tempdir().unwrap();
    let (file, data) = (directory.path().join("b"), server.data());
    fs::write(&file, "precious").unwrap();
    let backup = ["backup", "--data", path(&data), path(&file)];
    refused(&backup, None, 2, &[path(&file), "already exists", "--force"]);
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    run(&[&backup[..], &["--force"]].concat(), None);
    assert_eq!(names(directory.path()), ["b"]);

    let full = directory.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("file"), "precious").unwrap();
    refused(&["restore", path(&file), "--data", path(&full)], None, 2, &["full", "not empty"]);
    refused(&["restore", path(&file), "--data", path(&file)], None, 2, &["cannot be used"]);
    assert_eq!(names(&full), ["file"]);
    assert_eq!(names(directory.path()), ["b", "full"]);
    // A typed option wins over a URL in the environment.
    let output =
        tool(&[&backup[..], &["--force"]].concat(), None).env("KEYLEDGER_URL", "http://[::1]:9").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", text(&output));

    server.start_again();
    let other = directory.path().join("c");
    refused(
        &["backup", "--data", path(&data), path(&other)],
        None,
        2,
        &["in use", "--url", "KEYLEDGER_TOKEN"],
    );
    refused(&["backup", path(&other)], None, 2, &["--data or --url is missing"]);
    assert_eq!(names(directory.path()), ["b", "full"]);
    server.stop();

    // A truncated log yields no backup.
    let checkpoints = data.join("checkpoints.ndjson");
    let earlier = directory.path().join("earlier");
    run(&["restore", path(&file), "--data", path(&earlier), "--to", "2"], None);
    fs::copy(&checkpoints, earlier.join("checkpoints.ndjson")).unwrap();
    refused(&["backup", "--data", path(&earlier), path(&other)], None, 1, &["truncated"]);
}

#[test]
fn a_backup_requires_an_unbound_administrator() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("b");
    let address = url(&server);
    let backup = ["backup", "--url", &address, path(&file)];
    refused(&backup, None, 2, &["root key is missing", "KEYLEDGER_TOKEN", "--token-file"]);
    refused(&backup, Some(&token::root()), 2, &["401", "root key"]);
    for (permission, bound) in [("events:read", None), ("admin", Some(organization.as_str()))] {
        let (_, token) = root_key(&client, &[permission], bound);
        refused(&backup, Some(&token), 2, &["403", "admin"]);
    }
    let root = Some(server.root_token());
    refused(
        &[&backup[..], &["--with-keys"]].concat(),
        root,
        2,
        &["--with-keys", "does not hand out its keys"],
    );
    let elsewhere = format!("{address}/healthz");
    refused(&["backup", "--url", &elsewhere, path(&file)], root, 2, &["404", "check the URL"]);
    let closed = format!("http://{}", free_address());
    refused(&["backup", "--url", &closed, path(&file)], root, 2, &[&closed]);
    assert!(names(directory.path()).is_empty());
    let (_, token) = root_key(&client, &["admin"], None);
    run(&backup, Some(&token));
}

#[test]
fn a_backup_over_tls_checks_the_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let (pair, other) = (Pair::make(directory.path(), "good"), Pair::make(directory.path(), "other"));
    let server = Server::start_with(Options {
        arguments: pair.arguments(),
        trusted: Some(pair.certificate.clone()),
        ..Options::default()
    });
    let file = directory.path().join("b");
    let address = format!("https://{}", server.client().address());
    let backup = ["backup", "--url", &address, path(&file)];
    refused(&backup, Some(server.root_token()), 2, &[&address]);
    refused(
        &[&backup[..], &["--ca-cert", path(&other.certificate)]].concat(),
        Some(server.root_token()),
        2,
        &[&address],
    );
    run(&[&backup[..], &["--ca-cert", path(&pair.certificate)]].concat(), Some(server.root_token()));
}

/// Kills a command after ever longer parts of its duration. `whole` checks the files each time.
fn kill_at_ten_points(arguments: &[&str], token: Option<&str>, reset: impl Fn(), whole: impl Fn()) {
    let start = Instant::now();
    assert!(tool(arguments, token).output().unwrap().status.success());
    let time = start.elapsed();
    for tenth in 0..10 {
        reset();
        let mut child = tool(arguments, token).stdout(std::process::Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_nanos(u64::try_from(time.as_nanos()).unwrap() * tenth / 10));
        child.kill().unwrap();
        child.wait().unwrap();
        whole();
    }
}

#[test]
fn an_interrupted_backup_or_restore_leaves_nothing_that_looks_complete() {
    let mut server = Server::start();
    assert!(keyledger_tests::data::keys::create(&server.client(), 3_000).len() >= 3_000);
    let directory: TempDir = tempfile::tempdir().unwrap();
    let file = directory.path().join("b");
    let address = url(&server);
    let check = directory.path().join("check");
    kill_at_ten_points(
        &["backup", "--url", &address, path(&file)],
        Some(server.root_token()),
        || drop(fs::remove_file(&file)),
        || {
            if file.exists() {
                run(&["restore", path(&file), "--data", path(&check)], None);
                fs::remove_dir_all(&check).unwrap();
            }
        },
    );
    server.client().get("/readyz").expect(200);
    server.stop();
    let data = server.data();
    run(&["backup", "--data", path(&data), path(&file), "--force"], None);
    run(&["verify", "--data", path(&data)], None);

    let target = directory.path().join("data");
    let remove = || {
        if target.exists() {
            fs::remove_dir_all(&target).unwrap();
        }
    };
    let whole = || {
        if target.exists() {
            run(&["verify", "--data", path(&target)], None);
        }
    };
    kill_at_ten_points(&["restore", path(&file), "--data", path(&target)], None, remove, whole);
    remove();
    run(&["restore", path(&file), "--data", path(&target)], None);
    whole();
}
