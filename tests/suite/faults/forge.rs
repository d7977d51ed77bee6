//! Files forged by somebody who can write the disk and knows the formats: what they say is never served as
//! true, and the operator learns which file it is and what to do.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use keyledger_engine::codec;
use keyledger_engine::domain::event::Event;
use keyledger_engine::value::token::PresentedToken;
use keyledger_engine::vault::Vault;
use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{Issued, code, key, organization};
use keyledger_tests::data::token;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::{Options, Server};
use serde_json::{Value, json};

use crate::audit::transparency::{forge, serving_anyway};

/// Options of a server whose log may turn out to be forged.
fn may_refuse_log() -> Options {
    Options { may_refuse_log: true, ..Options::default() }
}

fn run(program: &str, arguments: &[&str], data: &Path) -> Output {
    Command::new(binaries::path(program)).args(arguments).arg("--data").arg(data).output().unwrap()
}

/// The state of a service that is not ready.
#[track_caller]
fn unready(client: &Client) -> Value {
    client.anonymous().get("/readyz").expect(503).json()
}

/// Checks that a running server serves nothing, and says that its log is the reason, and `why`.
#[track_caller]
fn serves_nothing(server: &Server, token: &str, why: &str) {
    let client = server.client();
    let refused = |answer: keyledger_tests::client::http::Response| {
        assert_eq!((answer.status, answer.code().as_str()), (503, "log_inconsistent"), "{}", answer.text());
    };
    // The first two take the fast path when nothing is wrong.
    refused(client.post("/v1/keys/verify", &json!({ "token": token })).send());
    refused(client.post("/v1/keys", &json!({ "organization_id": "acme", "environment": "preview" })).send());
    for path in ["/v1/keys", "/v1/events", "/console", "/portal", "/v1/backup", "/log/checkpoint", "/nowhere"]
    {
        refused(client.get(path).send());
    }
    refused(client.get("/log/tile/entries/000.p/1").send());
    refused(client.with_token(token).get("/v1/forward-auth").send());
    let folded = client.with_token(token).get("/v1/forward-auth?deny=403").expect(403);
    assert_eq!(folded.header("x-keyledger-code"), Some("log_inconsistent"));

    let anonymous = server.anonymous();
    assert_eq!(anonymous.get("/healthz").expect(200).text(), "ok\n");
    assert!(anonymous.get("/metrics").expect(200).text().contains("keyledger_log_inconsistent 1\n"));
    anonymous.get("/log/key").expect(200);
    anonymous.get("/log/tile/0/000.p/1").expect(200);
    anonymous.get("/problems/log_inconsistent").expect(200);
    let ready = unready(&client);
    let said = ready["log_inconsistent"].as_str().unwrap();
    let file = server.data().join("events.redb");
    assert!(
        said.contains(file.to_str().unwrap()) && said.contains(why) && said.contains("restore"),
        "{ready}"
    );
    assert!(server.output().contains(why), "{}", server.output());
}

/// Revoked keys of an organization, and a token of each.
fn revoked(client: &Client, organization: &str, count: usize) -> Vec<Issued> {
    let keys: Vec<_> = (0..count).map(|_| key(client, organization, json!({}))).collect();
    for issued in &keys {
        client.post(&issued.path("/revoke"), &json!({})).expect(200);
    }
    keys
}

#[test]
fn an_older_copy_of_the_log_is_not_served() {
    let mut server = Server::start();
    let acme = organization(&server.client(), "paid");
    let keys: Vec<_> = (0..20).map(|_| key(&server.client(), &acme, json!({}))).collect();
    server.stop();
    let data = server.data();
    let (log, older, newer) = (data.join("events.redb"), data.join("../older"), data.join("../newer"));
    fs::copy(&log, &older).unwrap();
    server.start_again();
    for issued in &keys {
        server.client().post(&issued.path("/revoke"), &json!({})).expect(200);
    }
    server.stop();
    fs::copy(&log, &newer).unwrap();
    fs::copy(&older, &log).unwrap();
    fs::remove_dir_all(data.join("projections")).unwrap();

    server.set_options(may_refuse_log());
    server.start_again();
    serves_nothing(&server, &keys[0].token, "this is an older copy of the log");
    server.stop();
    let created = run("keyledger", &["root-key", "create"], &data);
    let said = String::from_utf8_lossy(&created.stderr).into_owned();
    assert_eq!((created.status.code(), created.stdout.as_slice()), (Some(2), &b""[..]), "{said}");
    assert!(said.contains("older copy") && said.contains("--serve-inconsistent-log"), "{said}");
    // Nothing was appended to it.
    assert_eq!(run("replay-tool", &["verify"], &data).status.code(), Some(1));
    assert!(run("replay-tool", &["stats"], &data).status.success());

    // The operator may want it all the same, and is reminded.
    server.set_options(Options { arguments: serving_anyway(), ..Options::default() });
    server.start_again();
    assert_eq!(code(&server.client(), &keys[0].token), "VALID");
    let ready = server.client().get("/readyz").expect(200).json();
    assert!(ready["log_inconsistent"].as_str().unwrap().contains("older copy"), "{ready}");
    assert!(server.client().get("/metrics").expect(200).text().contains("keyledger_log_inconsistent 1\n"));
    assert!(server.output().contains("because of --serve-inconsistent-log"), "{}", server.output());
    server.stop();

    // The right file in its place ends it.
    fs::copy(&newer, &log).unwrap();
    server.set_options(Options::default());
    server.start_again();
    assert!(keys.iter().all(|issued| code(&server.client(), &issued.token) == "REVOKED"));
    assert!(server.client().get("/metrics").expect(200).text().contains("keyledger_log_inconsistent 0\n"));
}

/// Makes the token the one of the first root key, as somebody does who can write the log and its hashes.
fn forge_root_key(data: &Path, token: &str, hashes: bool) {
    let vault = Vault::open_read_only(&data.join("vault.redb")).unwrap();
    forge(data, hashes, |entries| {
        let entry = entries.first_mut().unwrap();
        let mut record = codec::decode_with(entry, Some(&vault)).unwrap();
        let Event::RootKeyCreated(facts, _) = &mut record.event else { panic!("{record:?}") };
        facts.digest = PresentedToken::parse_root(token).unwrap().digest();
        *entry = codec::encode(&record).unwrap();
    });
}

#[test]
fn a_log_with_a_forged_root_key_is_not_served() {
    let mut server = Server::start();
    let client = server.client();
    let acme = organization(&client, "paid");
    let keys = revoked(&client, &acme, 150);
    server.stop();
    server.set_options(may_refuse_log());
    let data = server.data();
    let good = fs::read(data.join("events.redb")).unwrap();
    for hashes in [true, false] {
        let attackers = token::root();
        forge_root_key(&data, &attackers, hashes);
        fs::remove_dir_all(data.join("projections")).unwrap();
        server.start_again();
        serves_nothing(&server, &keys[0].token, "the log was changed");
        let with_it = server.client().with_token(&attackers);
        assert_eq!(with_it.get("/v1/root-keys").expect(503).code(), "log_inconsistent");
        server.stop();
        assert_eq!(run("replay-tool", &["verify"], &data).status.code(), Some(1), "{hashes}");
        fs::write(data.join("events.redb"), &good).unwrap();
    }
}
