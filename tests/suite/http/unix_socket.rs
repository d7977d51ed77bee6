//! The service on a Unix socket: its answers, the address that its callers get, and the ownership of the
//! socket's file.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use keyledger_tests::data::fixture::organization;
use keyledger_tests::data::token;
use keyledger_tests::poll;
use keyledger_tests::processes::server::{Options, Refusal, Server};
use keyledger_tests::processes::tls::{self, Pair};
use serde_json::{Value, json};
use tempfile::TempDir;

const TIME_MAX: Duration = Duration::from_secs(10);

/// A directory for sockets, and a socket path in it.
fn socket() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("keyledger.sock");
    (directory, socket)
}

fn listening_at(socket: &Path, more: Vec<String>) -> Options {
    let mut arguments = vec!["--listen".into(), format!("unix:{}", socket.display())];
    arguments.extend(more);
    Options { arguments, ..Options::default() }
}

/// curl's status and body from a socket.
fn ask(socket: &Path, arguments: &[&str]) -> (u16, Value) {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--write-out",
            "\n%{http_code}",
            "--unix-socket",
        ])
        .arg(socket)
        .args(arguments)
        .output()
        .expect("curl is not installed: run tests/tools-install.sh test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null))
}

fn post(server: &Server, socket: &Path, path: &str, body: &Value, more: &[&str]) -> (u16, Value) {
    let credential = format!("authorization: Bearer {}", server.root_token());
    let (url, body) = (format!("http://localhost{path}"), body.to_string());
    let arguments = ["-H", &credential, "-H", "content-type: application/json", "-d", &body, &url];
    ask(socket, &[more, &arguments].concat())
}

fn start_at(socket: &Path) -> Result<Server, Refusal> {
    Server::start_in(tempfile::tempdir().unwrap(), &token::root(), listening_at(socket, Vec::new()))
}

#[test]
fn every_endpoint_is_served_on_the_socket_and_over_the_network() {
    let (_directory, socket) = socket();
    let server = Server::start_with(listening_at(&socket, Vec::new()));
    let client = server.client();
    let organization = organization(&client, "paid");
    let body = json!({ "organization_id": organization, "environment": "production" });
    let (status, made) = post(&server, &socket, "/v1/keys", &body, &[]);
    assert_eq!(status, 201, "{made}");
    let (id, token) = (made["key"]["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    server.transcript().issue(token);
    let verify =
        || post(&server, &socket, "/v1/keys/verify", &json!({ "token": token }), &[]).1["code"].clone();
    assert_eq!(verify(), "VALID");
    client.post(&format!("/v1/keys/{id}/revoke"), &json!({})).expect(200);
    assert_eq!(verify(), "REVOKED");
    assert_eq!(post(&server, &socket, &format!("/v1/keys/{id}/reactivate"), &json!({}), &[]).0, 200);
    let verified = client.post("/v1/keys/verify", &json!({ "token": token })).expect(200).json();
    assert_eq!(verified["code"], "VALID");
    assert_eq!(ask(&socket, &["http://localhost/v1/keys"]).0, 401, "a local connection is not a credential");
}

#[test]
fn a_caller_on_the_socket_has_a_local_address_or_the_one_from_its_proxy() {
    let (_directory, socket) = socket();
    for (trusts, expected) in [(false, "127.0.0.1"), (true, "203.0.113.9")] {
        let more = if trusts { vec!["--trusted-proxy".into(), "127.0.0.1/32".into()] } else { Vec::new() };
        let server = Server::start_with(listening_at(&socket, more));
        let client = server.client();
        let body = json!({ "organization_id": organization(&client, "paid"), "environment": "production" });
        let forwarded = ["-H", "x-forwarded-for: 203.0.113.9"];
        for path in ["/v1/keys", "/v1/keys?"] {
            let (status, made) = post(&server, &socket, path, &body, &forwarded);
            assert_eq!(status, 201, "{made}");
            server.transcript().issue(made["token"].as_str().unwrap());
            let trail = client
                .get(&format!("/v1/keys/{}/events", made["key"]["id"].as_str().unwrap()))
                .expect(200)
                .json();
            assert_eq!(trail["data"][0]["actor"]["ip"], expected, "{path}");
        }
    }
}

#[test]
fn the_socket_file_is_removed_at_the_stop_and_a_stale_one_is_replaced() {
    let (_directory, socket) = socket();
    let mut server = Server::start_with(listening_at(&socket, Vec::new()));
    let file = fs::metadata(&socket).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o666, "the directory decides who may connect");
    // A socket in use stays with the other service.
    start_at(&socket).err().expect("the address is in use").check("keyledger.sock: cannot listen");
    assert_eq!(ask(&socket, &["http://localhost/healthz"]).0, 200);
    server.kill();
    assert!(socket.exists(), "a killed service does not remove its socket");
    server.start_again();
    assert_eq!(ask(&socket, &["http://localhost/healthz"]).0, 200);
    assert!(server.stop().success());
    assert!(!socket.exists());
    // A socket file that replaced one's own is left alone.
    server.start_again();
    fs::remove_file(&socket).unwrap();
    let other = start_at(&socket).unwrap();
    assert!(server.stop().success());
    assert_eq!(ask(&socket, &["http://localhost/healthz"]).0, 200);
    drop(other);
    assert!(!socket.exists());
    // A file of another kind is left alone.
    fs::write(&socket, "precious").unwrap();
    start_at(&socket).err().expect("it is no socket").check("keyledger.sock: cannot listen");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
    let nowhere = socket.with_file_name("missing").join("keyledger.sock");
    start_at(&nowhere).err().expect("there is no directory").check("name another address with --listen");
}

#[test]
fn the_socket_is_served_without_tls() {
    let (directory, socket) = socket();
    let pair = Pair::make(directory.path(), "good");
    let options = listening_at(&socket, pair.arguments());
    let server = Server::start_with(Options { trusted: Some(pair.certificate.clone()), ..options });
    assert_eq!(ask(&socket, &["http://localhost/healthz"]).0, 200);
    let url = format!("https://{}/healthz", server.client().address());
    assert!(tls::curl(&pair.certificate, &["--fail", &url]).status.success());
}

#[test]
fn a_busy_service_answers_503_on_the_socket() {
    let (_directory, socket) = socket();
    let _server = Server::start_with(listening_at(&socket, vec!["--max-connections".into(), "1".into()]));
    let status = || ask(&socket, &["http://localhost/healthz"]).0;
    let mut open = Vec::new();
    poll::until("a connection to be taken", TIME_MAX, || {
        // Earlier connections may have arrived while the only place was still taken.
        open.push(UnixStream::connect(&socket).unwrap());
        (status() == 503).then_some(())
    });
    open.clear();
    poll::until("room", TIME_MAX, || (status() == 200).then_some(()));
}
