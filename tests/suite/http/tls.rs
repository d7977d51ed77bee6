//! TLS: a certificate checked by curl, its replacement under traffic, and errors for unusable files.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keyledger_tests::data::token;
use keyledger_tests::poll;
use keyledger_tests::processes::server::{Options, Server};
use keyledger_tests::processes::tls::{Pair, curl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn start(pair: &Pair) -> Server {
    Server::start_with(Options {
        arguments: pair.arguments(),
        trusted: Some(pair.certificate.clone()),
        ..Options::default()
    })
}

fn url(server: &Server, path: &str) -> String {
    format!("https://{}{path}", server.client().address())
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn trusts(server: &Server, certificate: &Path) -> bool {
    curl(certificate, &["--fail", &url(server, "/healthz")]).status.success()
}

#[test]
fn keys_are_issued_and_verified_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let pair = Pair::make(directory.path(), "good");
    let server = start(&pair);
    let credential = format!("authorization: Bearer {}", server.root_token());
    let call = |path: &str, body: &Value| -> Value {
        let url = url(&server, path);
        let body = body.to_string();
        let arguments = [
            "--fail-with-body",
            "-H",
            &credential,
            "-H",
            "content-type: application/json",
            "-d",
            &body,
            &url,
        ];
        let output = curl(&pair.certificate, &arguments);
        assert!(output.status.success(), "{path}: {}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    call("/v1/organizations", &json!({ "id": "acme", "kind": "paid", "name": "Acme" }));
    let issued = call("/v1/keys", &json!({ "organization_id": "acme", "environment": "production" }));
    server.transcript().issue(issued["token"].as_str().unwrap());
    let question = json!({ "token": issued["token"] });
    assert_eq!(call("/v1/keys/verify", &question)["code"], "VALID");
    let tokens = json!({ "tokens": vec![&issued["token"]; 1_000] });
    assert_eq!(call("/v1/keys/verify-batch", &tokens)["data"].as_array().unwrap().len(), 1_000);

    // Many requests on one connection, both plain verifications and others.
    let mut arguments: Vec<String> = Vec::new();
    for _ in 0..20 {
        for path in ["/v1/keys/verify", "/v1/keys/verify?x"] {
            if !arguments.is_empty() {
                arguments.push("--next".into());
            }
            let body = question.to_string();
            let one = [
                "--silent",
                "--cacert",
                pair.certificate.to_str().unwrap(),
                "-w",
                "\n%{num_connects} %{http_version}\n",
                "-H",
                &credential,
                "-H",
                "content-type: application/json",
                "-d",
                &body,
            ];
            arguments.extend(one.map(str::to_owned));
            arguments.push(url(&server, path));
        }
    }
    let output = curl(&pair.certificate, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let shown = text(&output);
    assert_eq!(shown.matches("\"VALID\"").count(), 40, "{shown}");
    assert_eq!(shown.matches("\n0 1.1").count(), 39, "one connection for all: {shown}");
}

#[test]
fn old_versions_plain_http_and_silent_clients_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (pair, other) = (Pair::make(directory.path(), "good"), Pair::make(directory.path(), "other"));
    let server = start(&pair);
    let healthy = url(&server, "/healthz");
    for version in [&["--tlsv1.2", "--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        assert!(
            curl(&pair.certificate, &[version, &["--fail", &healthy]].concat()).status.success(),
            "{version:?}"
        );
    }
    let old = ["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", &healthy];
    assert!(!curl(&pair.certificate, &old).status.success(), "TLS 1.1 is refused");
    assert!(!trusts(&server, &other.certificate), "another certificate is not trusted");

    // A client that speaks plain HTTP gets an answer that says so.
    // No endpoint answers this, so the OpenAPI document does not list it.
    let refused = server.anonymous().get("/healthz").try_send().unwrap();
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("https://"), "{}", refused.text());

    // A silent client delays no other caller, and is disconnected.
    let started = Instant::now();
    let mut silent: Vec<TcpStream> =
        (0..50).map(|_| TcpStream::connect(server.client().address()).unwrap()).collect();
    let mut half = TcpStream::connect(server.client().address()).unwrap();
    half.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    silent.push(half);
    assert!(trusts(&server, &pair.certificate));
    assert!(started.elapsed() < Duration::from_secs(8), "other callers wait for them");
    for mut socket in silent {
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        // Closed, with or without a TLS alert.
        let _ = socket.read_to_end(&mut Vec::new()).map(|count| assert!(count < 100));
        assert!(started.elapsed() < Duration::from_secs(25));
    }
}

/// Replaces a file atomically.
fn put(from: &Path, to: &Path) {
    let beside = to.with_extension("new");
    fs::copy(from, &beside).unwrap();
    fs::rename(&beside, to).unwrap();
}

/// Makes the server read its certificate again.
fn hang_up(server: &Server) {
    kill_process(Pid::from_raw(server.pid().cast_signed()).unwrap(), Signal::HUP).unwrap();
}

#[test]
fn a_certificate_is_replaced_under_traffic() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let pair = Pair::make(directory.path(), "used");
    let next = [Pair::make(directory.path(), "second"), Pair::make(directory.path(), "third")];
    let first = path("first.pem");
    fs::copy(&pair.certificate, &first).unwrap();
    // Clients trust all of the certificates, so none notices a replacement.
    let all = path("all.pem");
    let certificates = [&first, &next[0].certificate, &next[1].certificate];
    fs::write(&all, certificates.map(|file| fs::read_to_string(file).unwrap()).concat()).unwrap();
    let mut server = start(&pair);
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let output = curl(&all, &["--fail", &url(&server, "/healthz")]);
                    assert!(output.status.success(), "{}", text(&output));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // The threads must end even if an assertion fails here.
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            assert!(trusts(&server, &first));
            // The changed files alone are enough.
            put(&next[0].key, &pair.key);
            put(&next[0].certificate, &pair.certificate);
            let limit = Duration::from_secs(20);
            poll::until("the second certificate", limit, || {
                trusts(&server, &next[0].certificate).then_some(())
            });
            assert!(!trusts(&server, &first));

            // A mismatched pair is rejected: the second certificate stays in use, and the log says why.
            put(&next[1].certificate, &pair.certificate);
            hang_up(&server);
            let complaint = format!("{}: does not match the certificate", pair.key.display());
            poll::until("the complaint", limit, || server.output().contains(&complaint).then_some(()));
            assert!(trusts(&server, &next[0].certificate));

            put(&next[1].key, &pair.key);
            hang_up(&server);
            poll::until("the third certificate", limit, || {
                trusts(&server, &next[1].certificate).then_some(())
            });

            // Removed, and restored.
            fs::remove_file(&pair.certificate).unwrap();
            hang_up(&server);
            let complaint = format!("{}: cannot be read", pair.certificate.display());
            poll::until("the error about the certificate", limit, || {
                server.output().contains(&complaint).then_some(())
            });
            assert!(trusts(&server, &next[1].certificate));
            put(&next[1].certificate, &pair.certificate);
        }));
        stop.store(true, Ordering::Relaxed);
        changed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert!(answered.into_inner() > 20);
    // An idle open connection does not delay a stop.
    let _open = TcpStream::connect(server.client().address()).unwrap();
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn unusable_certificate_files_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (one, two) = (Pair::make(directory.path(), "one"), Pair::make(directory.path(), "two"));
    let write = |name: &str, content: &str| {
        fs::write(path(name), content).unwrap();
        path(name)
    };
    let empty = write("empty.pem", "");
    let garbage = write("garbage.pem", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    let no_certificate =
        write("none.pem", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n");
    let missing = path("missing.pem");
    for (certificate, key, named) in [
        (&missing, &one.key, &missing),
        (&one.certificate, &missing, &missing),
        (&empty, &one.key, &empty),
        (&garbage, &one.key, &garbage),
        (&no_certificate, &one.key, &no_certificate),
        (&one.key, &one.key, &one.key),
        (&one.certificate, &empty, &empty),
        (&one.certificate, &one.certificate, &one.certificate),
        (&one.certificate, &two.key, &two.key),
    ] {
        let pair = Pair { certificate: certificate.clone(), key: key.clone() };
        let options = Options { arguments: pair.arguments(), ..Options::default() };
        let refusal = Server::start_in(tempfile::tempdir().unwrap(), &token::root(), options).err().unwrap();
        refusal.check(&named.display().to_string());
        assert_eq!(refusal.status.code(), Some(2));
    }
    // One without the other is an error of the command line, which says which is missing.
    for (given, missing) in [("--tls-cert", "--tls-key"), ("--tls-key", "--tls-cert")] {
        let arguments = vec![given.into(), one.key.display().to_string()];
        let options = Options { arguments, ..Options::default() };
        let refusal = Server::start_in(tempfile::tempdir().unwrap(), &token::root(), options).err().unwrap();
        assert!(refusal.message.contains(missing), "{}", refusal.message);
    }
}
