//! The security log: who tried to get in, who got in, and what leaves no event.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use keyledger_tests::client::console::Browser;
use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{
    Application, access_token, application, key, organization, root_key, signed_in, token_request,
};
use keyledger_tests::data::token;
use keyledger_tests::poll;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::{Options, Server};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const TIME_MAX: Duration = Duration::from_secs(20);

fn serve(file: &Path) -> Server {
    let arguments = vec!["--security-log".to_owned(), file.display().to_string()];
    Server::start_with(Options { arguments, ..Options::default() })
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Checks the lines with packages that know OCSF.
#[track_caller]
fn assert_ocsf(file: &Path) {
    let python = binaries::workspace().join("tests/tools/bin/python3");
    assert!(python.exists(), "{} is missing: run tests/tools-install.sh test", python.display());
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers/ocsf.py");
    let output = Command::new(python).arg(reader).arg(file).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), lines(file).len().to_string());
}

/// The kind of credential and the reason of each refused authentication.
fn refused(lines: &[Value]) -> Vec<(String, String)> {
    let failed = lines.iter().filter(|line| line["class_uid"] == 3002 && line["status"] == "Failure");
    let of = |line: &Value| {
        (
            line["auth_protocol"].as_str().unwrap().to_owned(),
            line["status_detail"].as_str().unwrap().to_owned(),
        )
    };
    failed.map(of).collect()
}

fn has(lines: &[Value], expected: &Value) -> bool {
    let members = expected.as_object().unwrap();
    lines.iter().any(|line| members.iter().all(|(name, value)| line[name] == *value))
}

fn metric(client: &Client, labels: &str) -> u64 {
    let text = client.anonymous().get("/metrics").expect(200).text();
    let name = format!("keyledger_authentications_total{{{labels}}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(name.as_str()));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

#[test]
fn each_refused_credential_is_recorded_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("security.ndjson");
    let server = serve(&file);
    let client = server.client();
    let (revoked_id, revoked) = root_key(&client, &["keys:read"], None);
    client.delete(&format!("/v1/root-keys/{revoked_id}")).expect(204);
    let app = application(&client, &["keys:read"], None);
    let stale = access_token(&client, &app);
    client.post(&app.path("/rotate-secret"), &json!({})).expect(200);

    let anonymous = client.anonymous();
    let unknown = token::root();
    let unknown_secret = token::with_head("klsecret_", [7; 32]);
    let (head, rest) = stale.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", rest.chars().rev().collect::<String>());
    for bearer in [&unknown, &token::with_wrong_checksum(&unknown), &revoked, &stale, &forged] {
        client.with_token(bearer).get("/v1/keys").header("user-agent", "probe").expect(401);
    }
    client.with_token("hunter2").get("/v1/keys").expect(401);
    anonymous.get("/v1/keys").header("cookie", "keyledger_session=klsession_planted").expect(401);
    // Nothing was presented.
    anonymous.get("/v1/keys").expect(401);
    let other = application(&client, &["keys:read"], None);
    let wrong = Application { id: other.id.clone(), secret: unknown_secret };
    token_request(&anonymous, &wrong, &[]).expect(401);
    token_request(&anonymous, &app, &[]).expect(401);
    let unknown_link = token::with_head("kllink_", [7; 32]);
    anonymous.post("/portal/session", &json!({ "link": unknown_link })).expect(404);
    anonymous.request("POST", "/console/sign-in").form(&[("secret", &revoked)]).expect(422);

    let lines = lines(&file);
    let expected = [
        ("root_key", "unknown"),
        ("root_key", "malformed"),
        ("root_key", "revoked"),
        ("access_token", "revoked"),
        ("access_token", "invalid"),
        ("other", "malformed"),
        ("session", "malformed"),
        ("client_secret", "unknown"),
        ("client_secret", "unknown"),
        ("portal_link", "unknown"),
        ("root_key", "revoked"),
    ];
    let expected = expected.map(|(kind, reason)| (kind.to_owned(), reason.to_owned()));
    assert_eq!(refused(&lines), expected);
    assert_ocsf(&file);
    // The line says whose credential it is, where it was used, and no more than its ends.
    let line = lines.iter().find(|line| line["status_detail"] == "revoked").unwrap();
    let hint = format!("{}…{}", &revoked[..11], &revoked[revoked.len() - 4..]);
    assert_eq!((&line["user"]["uid"], &line["user"]["credential_uid"]), (&json!(revoked_id), &json!(hint)));
    assert_eq!(line["src_endpoint"]["ip"], "127.0.0.1");
    assert_eq!(line["http_request"]["user_agent"], "probe");
    let text = fs::read_to_string(&file).unwrap();
    for secret in [&unknown, &revoked, &forged, &wrong.secret, &app.secret, &unknown_link] {
        assert!(!text.contains(&secret[secret.len() - 30..secret.len() - 8]), "{secret}");
    }
    assert!(!text.contains("hunter2"));
    assert_eq!(metric(&client, r#"kind="root_key",outcome="revoked""#), 2);
    assert_eq!(metric(&client, r#"kind="client_secret",outcome="unknown""#), 2);
    assert_eq!(metric(&client, r#"kind="portal_link",outcome="unknown""#), 1);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_callers_do_without_an_event_is_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("security.ndjson");
    let server = serve(&file);
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));
    let app = application(&client, &["keys:read"], None);
    client.with_token(&access_token(&client, &app)).get("/v1/backup").expect(403);
    client.get("/v1/events?format=ndjson").expect(200);
    client.get("/v1/backup").expect(200);
    client.post("/v1/keys/find", &json!({ "token": issued.token })).expect(200);
    let _ = client.post("/v1/log/verifications", &json!({})).send();
    let person = signed_in(&client, &organization, "admin");
    person.get("/v1/keys").expect(200);
    person.delete("/portal/session").expect(204);
    let browser = Browser::sign_in(&client, server.root_token());
    assert_eq!(browser.submit("/console/sign-out", &[]).location(303), "/console/sign-in");

    let lines = lines(&file);
    assert_ocsf(&file);
    let does = |operation: &str, status: &str| {
        has(&lines, &json!({ "class_uid": 6003, "status": status, "api": { "operation": operation } }))
    };
    for operation in ["GET /v1/events", "GET /v1/backup", "POST /v1/keys/find", "POST /v1/log/verifications"]
    {
        assert!(does(operation, "Success"), "{operation}: {lines:#?}");
    }
    assert!(does("GET /v1/backup", "Failure"));
    let issued_to = json!({ "uid": app.id, "type_id": 99, "type": "application" });
    assert!(has(&lines, &json!({ "activity_name": "Issue Token", "user": issued_to })));
    for kind in ["portal_link", "root_key"] {
        assert!(has(&lines, &json!({ "activity_name": "Logon", "auth_protocol": kind })), "{kind}");
    }
    let ended = lines.iter().filter(|line| line["activity_name"] == "Logoff").count();
    assert_eq!(ended, 2);
    let in_organization = lines.iter().find(|line| line["activity_name"] == "Logon").unwrap();
    assert_eq!(in_organization["metadata"]["tenant_uid"], json!(organization));
}

#[test]
fn a_flood_of_wrong_credentials_is_a_few_lines() {
    let server = Server::start();
    let client = server.client();
    for _ in 0..500 {
        client.with_token(&token::root()).get("/v1/keys").expect(401);
        client.get("/v1/apis").expect(200);
    }
    assert_eq!(metric(&client, r#"kind="root_key",outcome="unknown""#), 500);
    assert!(metric(&client, r#"kind="root_key",outcome="accepted""#) > 0);
    let mut server = server;
    server.stop();
    let output = server.output();
    let lines: Vec<Value> = output
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let failed: Vec<_> = lines.iter().filter(|line| line["status_detail"] == "unknown").collect();
    // The flood may cross the end of a window.
    assert!(failed.len() <= 8, "{}", failed.len());
    let counted: u64 = failed.iter().map(|line| line["count"].as_u64().unwrap_or(1)).sum();
    assert_eq!(counted, 500);
    let accepted = lines.iter().filter(|line| line["message"] == "credential accepted");
    assert_eq!(accepted.count(), 1);
}

#[test]
fn repeated_verifications_of_a_connection_are_recorded_once() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let (_, token) = root_key(&client, &["keys:verify"], Some(&organization));
    let verifier = client.with_token(&token);
    for _ in 0..50 {
        verifier.post("/v1/keys/verify", &json!({ "token": "none" })).expect(200);
    }
    let is_verifiers = |line: &&str| line.contains("tenant_uid") && line.contains("credential accepted");
    assert_eq!(server.output().lines().filter(is_verifiers).count(), 1);
}

#[test]
fn the_file_is_reopened_on_sighup() {
    let directory = tempfile::tempdir().unwrap();
    let (file, moved) = (directory.path().join("security"), directory.path().join("security.1"));
    let server = serve(&file);
    let client = server.client();
    client.get("/v1/keys").expect(200);
    fs::rename(&file, &moved).unwrap();
    let pid = Pid::from_raw(server.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    poll::until("the file to be opened again", TIME_MAX, || file.exists().then_some(()));
    client.with_token(&token::root()).get("/v1/keys").expect(401);
    assert_eq!((lines(&moved).len(), lines(&file).len()), (1, 1));
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = vec!["--security-log".to_owned(), "/nowhere/at/all".to_owned()];
    let options = Options { arguments, ..Options::default() };
    let refusal = Server::start_in(directory, &token::root(), options).err().unwrap();
    refusal.check("/nowhere/at/all: No such file or directory");
}
