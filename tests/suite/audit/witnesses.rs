//! Witnesses: a witness written in Go on the reference implementation receives every checkpoint, cosigns it,
//! and detects an operator who goes back behind what it has seen.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use keyledger_tests::client::http::Client;
use keyledger_tests::client::transcript::Transcript;
use keyledger_tests::data::fixture::{key, organization};
use keyledger_tests::poll;
use keyledger_tests::processes::server::{Options, Server};
use serde_json::{Value, json};

use crate::audit::transparency::{
    checkpoint, copy, forge, rename, replay_tool, serving_anyway, size_of, take_vault_away, text, tool,
};

const LIMIT: Duration = Duration::from_secs(10);

/// A running witness.
struct Witness {
    child: Child,
    key: String,
    address: String,
}

impl Witness {
    fn start(name: &str, seed: u8, directory: &Path) -> Self {
        let mut child = tool("witness")
            .args(["-name", name, "-seed", &seed.to_string(), "-state"])
            .arg(directory.join(name))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the witness can be started");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let (key, address) = (line(), line());
        Self { child, key, address }
    }

    /// The value of `--witness`.
    fn argument(&self) -> String {
        format!("{} {}", self.key, self.address)
    }

    /// Registers a log with the witness.
    fn know(&self, log_key: &str) {
        let address = self.address.trim_start_matches("http://").trim_end_matches("/sub").parse().unwrap();
        let client = Client::new(address, Transcript::default());
        let _ = client.request("POST", "/know").body("text/plain", log_key.as_bytes()).expect(200);
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn watched_by(witnesses: &[&Witness]) -> Options {
    let arguments = witnesses.iter().flat_map(|it| ["--witness".to_owned(), it.argument()]);
    Options { arguments: arguments.collect(), may_refuse_log: true, ..Options::default() }
}

/// Stops a server and starts it on the same data with other options.
fn restart_with(mut server: Server, options: Options) -> Server {
    server.stop();
    let token = server.root_token().to_owned();
    Server::start_in(server.into_directory(), &token, options).unwrap()
}

/// A server with these witnesses and some history.
fn watched_server(witnesses: &[&Witness]) -> Server {
    let server = Server::start();
    let log_key = server.anonymous().get("/log/key").expect(200).text();
    witnesses.iter().for_each(|it| it.know(&log_key));
    let server = restart_with(server, watched_by(witnesses));
    grow(&server);
    server
}

fn grow(server: &Server) {
    let client = server.client();
    let organization = organization(&client, "paid");
    for n in 0..10 {
        let _ = key(&client, &organization, json!({ "name": format!("key {n}") }));
    }
}

/// The checkpoint over everything answered so far. It is signed within a second for a caller, and less often
/// for others.
fn newest(server: &Server) -> String {
    let head = server.client().get("/readyz").expect(200).json()["position"].as_u64().unwrap();
    poll::until("a checkpoint over all", LIMIT, || {
        Some(checkpoint(&server.client())).filter(|it| size_of(it) >= head)
    })
}

fn signers(checkpoint: &str) -> Vec<&str> {
    let lines = checkpoint.lines().filter_map(|line| line.strip_prefix("\u{2014} "));
    lines.map(|line| line.split_once(' ').unwrap().0).collect()
}

fn witness_of(server: &Server, index: usize) -> Value {
    server.anonymous().get("/readyz").send().json()["witnesses"][index].clone()
}

#[test]
fn checkpoints_are_cosigned_as_the_log_grows() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (
        Witness::start("w1.example", 1, directory.path()),
        Witness::start("w2.example", 2, directory.path()),
    );
    let mut server = watched_server(&[&first, &second]);
    let before = newest(&server);
    let origin = before.lines().next().unwrap().to_owned();
    assert_eq!(signers(&before), [origin.as_str(), "w1.example", "w2.example"], "{before}");
    grow(&server);
    let after = newest(&server);
    assert!(size_of(&after) > size_of(&before));
    assert_eq!(signers(&after).len(), 3, "{after}");
    let status = witness_of(&server, 0);
    assert_eq!((&status["name"], &status["problem"]), (&json!("w1.example"), &Value::Null), "{status}");
    assert_eq!(status["size"], size_of(&after));
    assert!(status["cosigned_at"].is_string());
    let kept: Value =
        serde_json::from_slice(&fs::read(directory.path().join("w2.example")).unwrap()).unwrap();
    assert_eq!(kept["Seen"][&origin]["N"], size_of(&after));

    // A proof includes the cosignatures, from the service and from the files alone, and independent programs
    // verify them.
    let client = server.client();
    let served = client.get("/v1/events/2/proof").expect(200).text();
    server.stop();
    let proof = directory.path().join("event.tlog-proof");
    let output = replay_tool(&["proof", "2", "--json", "--output", proof.to_str().unwrap()], &server.data());
    assert!(output.status.success(), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let served_proof = directory.path().join("served.tlog-proof");
    fs::write(&served_proof, served).unwrap();
    let verify = |proof: &Path, threshold: &str, keys: [&str; 2]| {
        let output = tool("proofbundle")
            .args(["verify-proof", "--log-vkey", report["verifier_key"].as_str().unwrap()])
            .args(["--witness-vkey", keys[0], "--witness-vkey", keys[1], "--threshold", threshold])
            .args(["--payload-file", report["entry"].as_str().unwrap()])
            .arg(proof)
            .output();
        output.expect("proofbundle can be started")
    };
    for proof in [&proof, &served_proof] {
        let output = verify(proof, "2", [&first.key, &second.key]);
        assert!(output.status.success(), "{}", text(&output));
        let stranger = Witness::start("w3.example", 3, directory.path());
        assert!(!verify(proof, "2", [&first.key, &stranger.key]).status.success());
    }
    // They survive a restart, and a check of the files ignores them.
    server.start_again();
    assert_eq!(signers(&newest(&server)).len(), 3);
    server.stop();
    let output = replay_tool(&["verify"], &server.data());
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_witness_that_does_not_answer_delays_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (good, gone) = (
        Witness::start("good.example", 1, directory.path()),
        Witness::start("gone.example", 2, directory.path()),
    );
    let stranger = Witness::start("stranger.example", 3, directory.path());
    let server = Server::start();
    let log_key = server.anonymous().get("/log/key").expect(200).text();
    good.know(&log_key);
    let options = watched_by(&[&gone, &good, &stranger]);
    drop(gone);
    let server = restart_with(server, options);
    grow(&server);
    let checkpoint = newest(&server);
    assert_eq!(signers(&checkpoint)[1..], ["good.example"], "{checkpoint}");
    let problem = |index| witness_of(&server, index)["problem"].as_str().unwrap_or_default().to_owned();
    assert!(problem(0).contains("refused"), "{}", problem(0));
    assert_eq!(problem(1), "");
    assert!(problem(2).contains("keyledger log-key"), "{}", problem(2));
}

/// Checks what a service says that has stopped signing because a witness has seen something else.
fn is_contradicted(server: &mut Server, witness: &Witness, why: &str) {
    poll::until("the service to refuse the log", LIMIT, || {
        (server.anonymous().get("/readyz").send().status == 503).then_some(())
    });
    assert_eq!(server.client().get("/v1/keys").expect(503).code(), "log_inconsistent");
    server.stop();
    let Options { mut arguments, .. } = watched_by(&[witness]);
    arguments.extend(serving_anyway());
    server.set_options(Options { arguments, ..Options::default() });
    server.start_again();
    let refused = server.anonymous().get("/log/checkpoint").expect(503);
    assert_eq!(refused.code(), "log_inconsistent");
    assert!(refused.text().contains(why), "{}", refused.text());
    let ready = server.anonymous().get("/readyz").expect(200).json();
    assert!(ready["signing_refused"].as_str().unwrap().contains(why), "{ready}");
    // Callers are served because the operator wants it.
    grow(server);
    assert_eq!(server.anonymous().get("/log/checkpoint").expect(503).code(), "log_inconsistent");
}

#[test]
fn an_older_copy_with_its_own_checkpoints_is_detected() {
    let directory = tempfile::tempdir().unwrap();
    let witness = Witness::start("w.example", 1, directory.path());
    let mut server = watched_server(&[&witness]);
    let seen = newest(&server);
    server.stop();
    let older = directory.path().join("older");
    copy(&server.data(), &older);
    server.start_again();
    grow(&server);
    let _ = newest(&server);
    server.stop();
    fs::remove_dir_all(server.data()).unwrap();
    copy(&older, &server.data());
    let signed = fs::read_to_string(older.join("checkpoints.ndjson")).unwrap();
    server.start_again();
    is_contradicted(&mut server, &witness, "this is an older copy");
    server.stop();
    let now_signed = fs::read_to_string(server.data().join("checkpoints.ndjson")).unwrap();
    assert_eq!(now_signed, signed, "something was signed after {seen}");
}

#[test]
fn a_rewritten_log_without_its_checkpoints_is_detected() {
    let directory = tempfile::tempdir().unwrap();
    let witness = Witness::start("w.example", 1, directory.path());
    let mut server = watched_server(&[&witness]);
    for _ in 0..10 {
        grow(&server);
    }
    let _ = newest(&server);
    server.stop();
    // By an attacker who has the log's key too.
    forge(&server.data(), true, |entries| rename(entries));
    take_vault_away(&server.data());
    fs::remove_file(server.data().join("checkpoints.ndjson")).unwrap();
    server.start_again();
    is_contradicted(&mut server, &witness, "has seen different events");
}

#[test]
fn a_malformed_witness_is_refused_at_the_start() {
    for (value, what) in [
        ("https://w.example", "a space"),
        ("w.example https://w.example", "witness's Ed25519 key"),
        // A log's key, not a witness's.
        (
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW https://w.example",
            "witness's Ed25519 key",
        ),
    ] {
        let arguments = vec!["--witness".to_owned(), value.to_owned()];
        let directory = tempfile::tempdir().unwrap();
        let options = Options { arguments, ..Options::default() };
        let refusal =
            Server::start_in(directory, &keyledger_tests::data::token::root(), options).err().unwrap();
        assert!(refusal.status.code().is_some_and(|code| code > 0));
        assert!(
            refusal.message.contains("--witness") && refusal.message.contains(what),
            "{}",
            refusal.message
        );
    }
}
