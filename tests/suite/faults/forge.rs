//! Files forged by somebody who can write the disk and knows the formats: what they say is never served as
//! true, and the operator learns which file it is and what to do.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use keyledger_engine::codec;
use keyledger_engine::domain::event::Event;
use keyledger_engine::value::token::PresentedToken;
use keyledger_engine::vault::Vault;
use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{Issued, code, key, organization};
use keyledger_tests::data::large_log::LargeLog;
use keyledger_tests::data::token;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::{Options, Server};
use keyledger_tests::{poll, seed};
use redb::{Database, ReadableTable, TableDefinition};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::audit::transparency::{crc32, forge, serving_anyway};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
/// More keys than the number from which on snapshots are saved.
const KEYS: usize = 101_000;
const LIMIT: Duration = Duration::from_secs(120);

/// Options of a server whose log may turn out to be forged.
fn may_refuse_log() -> Options {
    Options { may_refuse_log: true, ..Options::default() }
}

fn run(program: &str, arguments: &[&str], data: &Path) -> Output {
    Command::new(binaries::path(program)).args(arguments).arg("--data").arg(data).output().unwrap()
}

/// Runs the replay tool, which must succeed.
#[track_caller]
fn tool(arguments: &[&str], data: &Path) -> String {
    let Output { status, stdout, stderr } = run("replay-tool", arguments, data);
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert!(status.success(), "{arguments:?}: {said}");
    said
}

/// Runs the replay tool, which must find something wrong and say `why`.
#[track_caller]
fn tool_refuses(arguments: &[&str], data: &Path, why: &str) {
    let output = run("replay-tool", arguments, data);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains(why), "{arguments:?}: {said}");
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
    tool(&["stats"], &data);

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

/// Changes rows of a stored projection.
fn forge_rows(data: &Path, name: &str, forge: impl FnOnce(&mut redb::Table<'_, &[u8], &[u8]>)) {
    let database = Database::open(data.join(format!("projections/{name}.redb"))).unwrap();
    let transaction = database.begin_write().unwrap();
    forge(&mut transaction.open_table(ROWS).unwrap());
    transaction.commit().unwrap();
}

/// Replaces a text in the row of a key.
fn forge_key(data: &Path, id: &str, from: &[u8], to: &[u8]) {
    let id: keyledger_engine::value::id::KeyId = id.parse().unwrap();
    forge_rows(data, "key-list", |rows| {
        let key = id.to_u128().to_be_bytes();
        let mut row = rows.get(key.as_slice()).unwrap().unwrap().value().to_vec();
        let at = row.windows(from.len()).position(|it| it == from).unwrap();
        row[at..at + to.len()].copy_from_slice(to);
        rows.insert(key.as_slice(), row.as_slice()).unwrap();
    });
}

/// The state of a projection in `/readyz`, which is 503.
fn stopped_projection(client: &Client, name: &str) -> Option<String> {
    let answer = client.anonymous().get("/readyz").send();
    let ready = answer.json();
    let projections = ready["projections"].as_array().unwrap();
    let found = projections.iter().find(|it| it["name"] == name).unwrap();
    let reason = (found["status"] == "stopped").then(|| found["reason"].as_str().unwrap().to_owned());
    assert!(reason.is_none() || answer.status == 503, "{ready}");
    reason
}

#[test]
fn rows_that_are_not_in_the_log_are_not_shown() {
    let mut server = Server::start();
    let client = server.client();
    let acme = organization(&client, "paid");
    let billing = key(&client, &acme, json!({ "name": "Billing" }));
    client.post(&billing.path("/revoke"), &json!({})).expect(200);
    let position = client.get("/v1/organizations").expect(200).position();
    let head = position.to_string();
    for path in ["/v1/keys", "/v1/events"] {
        client.get(path).header("keyledger-min-position", &head).expect(200);
    }
    server.stop();
    let data = server.data();
    forge_key(&data, &billing.id, b"Billing", b"Bilking");
    forge_rows(&data, "audit-trail", |rows| {
        let third = rows.iter().unwrap().nth(2).unwrap().unwrap().0.value().to_vec();
        rows.remove(third.as_slice()).unwrap();
    });
    tool_refuses(&["verify"], &data, &billing.id);
    tool_refuses(&["verify"], &data, "replay-tool rebuild");
    tool(&["verify", "--log-only"], &data);

    server.set_options(Options { may_refuse_projections: true, ..Options::default() });
    server.start_again();
    let client = server.client();
    for (name, path) in [("key-list", "/v1/keys"), ("audit-trail", "/v1/events")] {
        assert_eq!(client.get(path).expect(503).code(), "projection_not_ready");
        let reason = stopped_projection(&client, name).unwrap();
        let file = data.join(format!("projections/{name}.redb"));
        assert!(reason.contains(file.to_str().unwrap()) && reason.contains("was altered"), "{reason}");
        assert!(reason.contains(&format!("POST /v1/projections/{name}/rebuild")), "{reason}");
    }
    // Verification does not depend on them.
    assert_eq!(code(&client, &billing.token), "REVOKED");
    for name in ["key-list", "audit-trail"] {
        client.post(&format!("/v1/projections/{name}/rebuild"), &json!({})).expect(202);
    }
    poll::until("the rebuilt projections", LIMIT, || {
        (client.get("/readyz").send().status == 200).then_some(())
    });
    let list = client.get("/v1/keys").expect(200).json();
    assert_eq!(
        (&list["data"][0]["name"], &list["data"][0]["status"]),
        (&json!("Billing"), &json!("revoked"))
    );
    server.stop();
    tool(&["verify"], &data);
}

/// HMAC-SHA-256, from RFC 2104.
fn hmac(key: &[u8; 32], text: &[u8]) -> [u8; 32] {
    let pad = |byte: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ byte).collect() };
    let inner = Sha256::digest([pad(0x36).as_slice(), text].concat());
    Sha256::digest([pad(0x5C).as_slice(), &inner].concat()).into()
}

/// The seed in a signing key's file: the last 32 bytes of its last part.
fn seed_of(log_key: &str) -> [u8; 32] {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let parts: Vec<&str> = log_key.trim().splitn(5, '+').collect();
    let mut bits = parts[4].bytes().filter(|it| *it != b'=').flat_map(|digit| {
        let value = DIGITS.bytes().position(|it| it == digit).unwrap();
        (0..6).rev().map(move |bit| value >> bit & 1)
    });
    let bytes: Vec<u8> =
        (0..33).map(|_| (0..8).fold(0, |byte, _| byte << 1 | bits.next().unwrap() as u8)).collect();
    bytes[1..].try_into().unwrap()
}

/// Makes `attackers` a root key with the rights of `root_token`, and a revoked key valid, as somebody does
/// who knows the format. With the log's signing key, they can also make the authentication code.
fn forge_snapshot(path: &Path, root_token: &str, attackers: &str, revoked: &str, log_key: Option<&str>) {
    let mut bytes = fs::read(path).unwrap();
    let find = |bytes: &[u8], token: &str| {
        let digest = token::digest(token);
        bytes.windows(32).position(|it| it == digest).unwrap()
    };
    let at = find(&bytes, root_token);
    bytes[at..at + 32].copy_from_slice(&token::digest(attackers));
    let at = find(&bytes, revoked) + 32;
    let revoked = bytes[at..].iter().position(|byte| *byte == 0xC3).unwrap();
    bytes[at + revoked] = 0xC2;
    let body = &bytes[..bytes.len() - 32];
    let code = match log_key {
        None => Sha256::digest(body).into(),
        Some(log_key) => hmac(&hmac(&seed_of(log_key), b"keyledger verification snapshot 1"), body),
    };
    let end = bytes.len() - 32;
    bytes[end..].copy_from_slice(&code);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_forged_snapshot_lets_nobody_in_for_long() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = LargeLog::begin(&directory.path().join("data"), seed::rng("forged snapshot"));
    log.organization("acme", "paid");
    let keys = log.keys("acme", None, KEYS);
    log.finish();
    let mut server = Server::start_in(directory, &token::root(), Options::default()).unwrap();
    let revoked = &keys[7];
    server.client().post(&format!("/v1/keys/{}/revoke", revoked.id), &json!({})).expect(200);
    server.stop();
    let data = server.data();
    let snapshot = data.join("projections/verification.snapshot");
    let log_key = fs::read_to_string(data.join("log-key")).unwrap();
    let (good, attackers, root_token) =
        (fs::read(&snapshot).unwrap(), token::root(), server.root_token().to_owned());
    let is_right = |server: &Server| {
        let client = server.client();
        client.get("/v1/root-keys").expect(200);
        client.with_token(&attackers).get("/v1/root-keys").expect(401);
        assert_eq!(code(&client, &revoked.token), "REVOKED");
    };

    // An intact one is compared with the log in the background, without a word but one.
    server.start_again();
    assert!(server.output().contains("restored the verification index"), "{}", server.output());
    is_right(&server);
    let passed = poll::until("the comparison", LIMIT, || {
        let latest = server.client().get("/v1/log/verifications").expect(200).json()["data"][0].clone();
        (latest["status"] != "running").then_some(latest)
    });
    assert_eq!((&passed["status"], &passed["number"]), (&json!("passed"), &json!(1)), "{passed}");
    server.stop();

    // Without the log's key there is no way to vouch for another one.
    fs::write(&snapshot, &good).unwrap();
    forge_snapshot(&snapshot, &root_token, &attackers, &revoked.token, None);
    tool_refuses(&["verify"], &data, "authentication code");
    server.start_again();
    is_right(&server);
    let line = server
        .output()
        .lines()
        .find(|line| line.contains("the index snapshot is not used"))
        .map(str::to_owned);
    assert!(line.is_some_and(|line| line.contains("ERROR") && line.contains(snapshot.to_str().unwrap())));
    server.stop();

    // Whoever holds the log's key too is found by the comparison. Rows of the key list are forged as well.
    fs::write(&snapshot, &good).unwrap();
    forge_snapshot(&snapshot, &root_token, &attackers, &revoked.token, Some(&log_key));
    tool_refuses(&["verify"], &data, "differs from a fresh replay");
    let last_four = &revoked.token[revoked.token.len() - 4..];
    forge_key(&data, &revoked.id, last_four.as_bytes(), b"0000");
    server.start_again();
    let reason = poll::until("the index to be stopped", LIMIT, || {
        stopped_projection(&server.client(), "verification-index")
    });
    assert!(
        reason.contains(snapshot.to_str().unwrap()) && reason.contains("Start the service again"),
        "{reason}"
    );
    let client = server.client();
    for token in [&revoked.token, &keys[8].token] {
        let refused =
            client.with_token(&attackers).post("/v1/keys/verify", &json!({ "token": token })).expect(503);
        assert_eq!(refused.code(), "verification_unavailable");
    }
    assert_eq!(
        client.with_token(&attackers).get("/v1/root-keys").expect(503).code(),
        "verification_unavailable"
    );
    assert!(!snapshot.exists());
    let reason = poll::until("the key list to be refused", LIMIT, || stopped_projection(&client, "key-list"));
    assert!(reason.contains(&revoked.id) && reason.contains("key-list.redb"), "{reason}");
    server.stop();
    assert!(!snapshot.exists());
    tool(&["rebuild"], &data);
    server.start_again();
    is_right(&server);
}

/// The backup without the signature in its last frame.
fn without_signature(backup: &[u8]) -> Vec<u8> {
    // The note after the hash begins with what it is for.
    let note = b"keyledger backup 2\n";
    let at = backup.windows(note.len()).rposition(|it| it == note).unwrap();
    let frame = [b"Z".as_slice(), &32_u32.to_be_bytes(), &backup[at - 32..at]].concat();
    [&backup[..at - 32 - 5], &frame, &crc32(&frame).to_be_bytes()].concat()
}

#[test]
fn a_forged_backup_is_not_restored_as_the_logs() {
    let mut server = Server::start();
    let client = server.client();
    let acme = organization(&client, "paid");
    let early = client.get("/log/checkpoint").expect(200).text();
    let keys = revoked(&client, &acme, 20);
    let log_key = client.get("/log/key").expect(200).text();
    let log_key = log_key.trim();
    server.stop();
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (genuine, forged, target) = (file("genuine"), file("forged"), place.path().join("data"));
    tool(&["backup", &genuine], &server.data());
    let restore = |backup: &str, more: &[&str]| {
        let restored = run("replay-tool", &[&["restore", backup], more].concat(), &target);
        let said = String::from_utf8_lossy(&[restored.stdout, restored.stderr].concat()).into_owned();
        (restored.status.code(), said)
    };
    let refuses = |backup: &str, more: &[&str], why: &str| {
        let (exit, said) = restore(backup, more);
        assert!(exit == Some(1) && said.contains(why) && !target.exists(), "{more:?}: {said}");
    };
    let accepts = |backup: &str, more: &[&str], what: &str| {
        let (exit, said) = restore(backup, more);
        assert!(exit == Some(0) && said.contains(what), "{more:?}: {said}");
        fs::remove_dir_all(&target).unwrap();
    };
    fs::write(file("early"), early).unwrap();
    fs::write(file("late"), server_checkpoint(&server.data())).unwrap();
    accepts(&genuine, &[], "that the backup itself names");
    accepts(&genuine, &["--log-key", log_key, "--checkpoint", &file("late")], "by the log's key");

    // Somebody who has the backup, and neither the log's key nor the service, adds a root key.
    let theirs = place.path().join("theirs");
    tool(&["restore", &genuine], &theirs);
    for name in ["checkpoints.ndjson", "log-key.pub"] {
        fs::remove_file(theirs.join(name)).unwrap();
    }
    let created = run("keyledger", &["root-key", "create"], &theirs);
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    let attackers = String::from_utf8(created.stdout).unwrap().trim().to_owned();
    tool(&["backup", &forged], &theirs);
    refuses(&forged, &[], "under no signed checkpoint");
    refuses(&forged, &["--log-key", log_key], "it is a backup of another log, or forged");
    accepts(&forged, &["--unsigned"], "positions: 1 to");
    refuses(&forged, &["--unsigned", "--log-key", log_key], "it is a backup of another log, or forged");
    fs::remove_file(theirs.join("log-key")).unwrap();
    fs::remove_file(theirs.join("log-key.pub")).unwrap();
    tool(&["backup", &forged, "--force"], &theirs);
    refuses(&forged, &[], "under no signed checkpoint");

    // With a key of their own, they can sign all of it. Then the log's key does not continue it.
    let directory = tempfile::tempdir().unwrap();
    fs::rename(&theirs, directory.path().join("data")).unwrap();
    let mut their_server = Server::start_in(directory, &token::root(), Options::default()).unwrap();
    their_server.client().get("/log/checkpoint").expect(200);
    their_server.stop();
    tool(&["backup", &forged, "--force"], &their_server.data());
    refuses(&forged, &["--log-key", log_key], "it is a backup of another log, or forged");
    let (exit, said) = restore(&forged, &[]);
    assert!(exit == Some(0) && said.contains("that the backup itself names"), "{said}");
    fs::copy(server.data().join("log-key"), target.join("log-key")).unwrap();
    let refused = run("keyledger", &["root-key", "create"], &target);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && said.contains("did not sign the last checkpoint"), "{said}");
    fs::remove_dir_all(&target).unwrap();

    // A signature that is taken away is missed, and an older backup is older than a kept checkpoint.
    fs::write(&forged, without_signature(&fs::read(&genuine).unwrap())).unwrap();
    refuses(&forged, &["--log-key", log_key], "not signed");
    accepts(&forged, &["--log-key", log_key, "--unsigned"], "nothing shows who wrote");
    server.start_again();
    let _ = key(&server.client(), &acme, json!({}));
    server.stop();
    fs::write(file("later"), server_checkpoint(&server.data())).unwrap();
    refuses(
        &genuine,
        &["--log-key", log_key, "--checkpoint", &file("later")],
        "a checkpoint was signed up to position",
    );
    accepts(&genuine, &["--log-key", log_key, "--checkpoint", &file("early")], "by the log's key");

    // The genuine one brings back what was true.
    tool(&["restore", &genuine, "--log-key", log_key], &target);
    fs::copy(server.data().join("log-key"), target.join("log-key")).unwrap();
    let restored = tempfile::tempdir().unwrap();
    fs::rename(&target, restored.path().join("data")).unwrap();
    let restored = Server::start_in(restored, server.root_token(), Options::default()).unwrap();
    restored.client().with_token(&attackers).get("/v1/root-keys").expect(401);
    assert!(keys.iter().all(|issued| code(&restored.client(), &issued.token) == "REVOKED"));
}

/// The newest signed checkpoint in a data directory.
fn server_checkpoint(data: &Path) -> String {
    let lines = fs::read_to_string(data.join("checkpoints.ndjson")).unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    last["checkpoint"].as_str().unwrap().to_owned()
}
