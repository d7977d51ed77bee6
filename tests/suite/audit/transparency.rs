//! Independent checks of the log: by Go's reference implementation over HTTP, by a verifier from PyPI on a
//! file, and by the replay tool; and what happens when the log is replaced.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use keyledger_tests::client::console::Browser;
use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{key, organization, root_key};
use keyledger_tests::data::keys;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::{Options, Server};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::audit::log_verification;

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const TREE: TableDefinition<'_, (u8, u64), &[u8; 32]> = TableDefinition::new("tree");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

pub(crate) fn tool(name: &str) -> Command {
    let path = binaries::workspace().join("tests/tools/bin").join(name);
    assert!(path.exists(), "{} is missing: run tests/tools-install.sh test", path.display());
    Command::new(path)
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn auditor(server: &Server, more: &[&str]) -> Output {
    let client = server.client();
    let key = server.anonymous().get("/log/key").expect(200).text();
    tool("auditor")
        .args(["-log", &format!("http://{}", client.address()), "-key", &key, "-token", server.root_token()])
        .args(more)
        .output()
        .expect("the auditor can be started")
}

pub(crate) fn replay_tool(arguments: &[&str], data: &Path) -> Output {
    Command::new(binaries::path("replay-tool"))
        .args(arguments)
        .arg("--data")
        .arg(data)
        .output()
        .expect("the replay tool can be started")
}

/// The position and the reason that `replay-tool verify` reports for a data directory.
#[track_caller]
fn finding(data: &Path) -> (u64, String) {
    let output = replay_tool(&["verify", "--json"], data);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let finding = &report["finding"];
    (finding["position"].as_u64().unwrap(), finding["reason"].as_str().unwrap().to_owned())
}

pub(crate) fn checkpoint(client: &Client) -> String {
    client.get("/log/checkpoint").expect(200).text()
}

pub(crate) fn size_of(checkpoint: &str) -> u64 {
    checkpoint.lines().nth(1).unwrap().parse().unwrap()
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).map(drop).unwrap()
        }
    }
}

/// A stopped server with some signed history.
fn stopped_server() -> Server {
    let mut server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    for n in 0..300 {
        let _ = key(&client, &organization, json!({ "name": format!("key {n}") }));
    }
    server.stop();
    server
}

#[test]
fn the_reference_implementation_verifies_100_000_events() {
    let server = Server::start();
    let client = server.client();
    let _ = key(&client, &organization(&client, "paid"), json!({}));
    let older = server.data().join("older-checkpoint");
    fs::write(&older, checkpoint(&client)).unwrap();
    assert!(keys::create(&client, 100_000).len() >= 100_000);
    // Checkpoints are signed about once a second. The newest one does not cover the end of the load yet.
    let size = || size_of(&checkpoint(&client));
    keyledger_tests::poll::until("a checkpoint over all", std::time::Duration::from_secs(5), || {
        (size() >= 100_000).then_some(())
    });
    let output = auditor(&server, &["-older", older.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("events, all as signed") && text(&output).contains("a prefix of"));
    fs::remove_file(older).unwrap();
}

#[test]
fn one_flipped_bit_anywhere_is_detected() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    for n in 0..300 {
        let _ = key(&client, &organization, json!({ "name": format!("key {n}") }));
    }
    keyledger_tests::poll::until("a checkpoint over all", std::time::Duration::from_secs(5), || {
        (size_of(&checkpoint(&client)) >= 302).then_some(())
    });
    let output = auditor(&server, &[]);
    assert!(output.status.success(), "{}", text(&output));
    let size = size_of(&checkpoint(&client));
    let partial = format!("001.p/{}", size - 256);
    for path in [
        "checkpoint".to_owned(),
        "tile/0/000".to_owned(),
        format!("tile/0/{partial}"),
        "tile/1/000.p/1".to_owned(),
        "tile/entries/000".to_owned(),
        format!("tile/entries/{partial}"),
    ] {
        let output = auditor(&server, &["-corrupt", &path]);
        assert_eq!(output.status.code(), Some(1), "{path}: {}", text(&output));
        assert!(text(&output).contains("FAILED:"), "{path}: {}", text(&output));
    }
}

#[test]
fn strangers_do_not_make_the_log_sign_each_event() {
    let server = Server::start();
    let client = server.client();
    let begun = std::time::Instant::now();
    let before = size_of(&checkpoint(&server.anonymous()));
    let organization = organization(&client, "paid");
    // What is older than a second is signed again for a caller, and not for anybody.
    let newest =
        keyledger_tests::poll::until("two seconds to pass", std::time::Duration::from_secs(10), || {
            let seen = size_of(&checkpoint(&server.anonymous()));
            (begun.elapsed() > std::time::Duration::from_secs(2)).then_some(seen)
        });
    assert_eq!(newest, before);
    let issued = key(&client, &organization, json!({}));
    assert!(size_of(&checkpoint(&client)) >= issued.position);
    // There is only one newest checkpoint.
    assert!(size_of(&checkpoint(&server.anonymous())) >= issued.position);
}

#[test]
fn tiles_are_served_as_specified() {
    let server = Server::start();
    let (client, anonymous) = (server.client(), server.anonymous());
    let organization = organization(&client, "paid");
    let _ = key(&client, &organization, json!({}));
    let answer = anonymous.get("/log/checkpoint").expect(200);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=1"));
    let size = size_of(&answer.text());
    let tile = anonymous.get(&format!("/log/tile/0/000.p/{size}")).expect(200);
    assert_eq!(tile.header("content-type"), Some("application/octet-stream"));
    assert!(tile.header("cache-control").unwrap().contains("immutable"));
    assert_eq!(tile.body.len() as u64, 32 * size);
    for path in ["0/000", "0/001", "0/0", "9/000", "64/000", "0/000.p/0", "x/000", "0/000.p/255", "1/000.p/1"]
    {
        assert_eq!(
            anonymous.get(&format!("/log/tile/{path}")).expect(404).code(),
            "tile_not_found",
            "{path}"
        );
    }
    // Entries contain personal text.
    let entries = format!("/log/tile/entries/000.p/{size}");
    assert_eq!(anonymous.get(&entries).expect(401).code(), "unauthenticated");
    for disguised in ["%65ntries", "entrie%73", "ent%72ies"] {
        let path = entries.replace("entries", disguised);
        let refused = anonymous.get(&path).send();
        assert!(matches!(refused.status, 401 | 404), "{path} answers {}", refused.status);
        assert!(!String::from_utf8_lossy(&refused.body).contains(&organization), "{path}");
    }
    for (permission, bound) in [("keys:read", None), ("events:read", Some(organization.as_str()))] {
        let (_, token) = root_key(&client, &[permission], bound);
        assert_eq!(client.with_token(&token).get(&entries).expect(403).code(), "forbidden");
    }
}

#[test]
fn a_proof_file_is_accepted_by_an_independent_verifier() {
    let mut server = Server::start();
    let client = server.client();
    let (own, other) = (organization(&client, "paid"), organization(&client, "paid"));
    let issued = key(&client, &own, json!({ "name": "proven" }));
    let (_, reader) = root_key(&client, &["events:read"], Some(&own));
    let (_, stranger) = root_key(&client, &["events:read"], Some(&other));
    let path = format!("/v1/events/{}/proof", issued.position);
    let shown = client.with_token(&reader).get(&path).expect(200);
    assert!(shown.header("content-disposition").unwrap().contains(".tlog-proof"));
    assert!(shown.text().starts_with("c2sp.org/tlog-proof@v1\n"));
    assert_eq!(client.with_token(&stranger).get(&path).expect(404).code(), "event_not_found");
    for position in ["0", "999999", "x"] {
        let path = format!("/v1/events/{position}/proof");
        assert_eq!(client.get(&path).expect(404).code(), "event_not_found", "{position}");
    }
    server.stop();

    let directory = tempfile::tempdir().unwrap();
    let proof = directory.path().join("event.tlog-proof");
    let position = issued.position.to_string();
    let output =
        replay_tool(&["proof", &position, "--json", "--output", proof.to_str().unwrap()], &server.data());
    assert!(output.status.success(), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let entry = PathBuf::from(report["entry"].as_str().unwrap());
    let verifier = report["verifier_key"].as_str().unwrap().to_owned();
    let printed =
        Command::new(binaries::path("keyledger")).arg("log-key").arg("--data").arg(server.data()).output();
    assert_eq!(text(&printed.unwrap()).trim(), verifier);
    let verify = |proof: &Path, entry: &Path| {
        let output = tool("proofbundle")
            .args(["verify-proof", "--log-vkey", &verifier, "--payload-file"])
            .arg(entry)
            .arg(proof)
            .output();
        output.expect("proofbundle can be started")
    };
    assert!(verify(&proof, &entry).status.success(), "{}", text(&verify(&proof, &entry)));
    let served = directory.path().join("served.tlog-proof");
    fs::write(&served, &shown.body).unwrap();
    assert!(verify(&served, &entry).status.success(), "{}", text(&verify(&served, &entry)));
    for file in [&proof, &entry] {
        let good = fs::read(file).unwrap();
        let mut bad = good.clone();
        let at = bad.len() / 3;
        bad[at] ^= 1;
        fs::write(file, bad).unwrap();
        assert!(!verify(&proof, &entry).status.success(), "{}", file.display());
        fs::write(file, good).unwrap();
    }
    let output = replay_tool(&["proof", "999999"], &server.data());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}

/// Starts a server on a log that differs from what was signed. It serves nothing and says why; if it has to
/// serve the log, it signs nothing and says why.
fn is_refused(mut server: Server, why: &str) {
    server.set_options(Options { may_refuse_log: true, ..Options::default() });
    server.start_again();
    let ready = server.anonymous().get("/readyz").expect(503).json();
    let said = ready["log_inconsistent"].as_str().unwrap();
    assert!(said.contains("events.redb") && said.contains(why), "{ready}");
    assert_eq!(server.client().get("/v1/keys").expect(503).code(), "log_inconsistent");
    server.stop();
    server.set_options(Options { arguments: serving_anyway(), ..Options::default() });
    server.start_again();
    let client = server.client();
    let refused = client.get("/log/checkpoint").expect(503);
    assert_eq!(refused.code(), "log_inconsistent");
    assert!(refused.text().contains(why), "{}", refused.text());
    let ready = client.get("/readyz").expect(200).json();
    assert!(ready["signing_refused"].as_str().unwrap().contains(why), "{ready}");
    assert!(ready["log_inconsistent"].as_str().unwrap().contains(why), "{ready}");
    // Callers are served.
    let _ = key(&client, &organization(&client, "paid"), json!({}));
}

/// The argument with which a server serves an inconsistent log.
pub(crate) fn serving_anyway() -> Vec<String> {
    vec!["--serve-inconsistent-log".to_owned()]
}

#[test]
fn an_older_log_under_newer_checkpoints_is_detected() {
    let mut server = stopped_server();
    let backup = tempfile::tempdir().unwrap();
    copy(&server.data(), backup.path());
    server.start_again();
    let client = server.client();
    let _ = key(&client, &organization(&client, "paid"), json!({}));
    server.stop();
    fs::copy(backup.path().join("events.redb"), server.data().join("events.redb")).unwrap();
    fs::remove_dir_all(server.data().join("projections")).unwrap();
    let (position, reason) = finding(&server.data());
    assert_eq!(position, 303, "{reason}");
    assert!(reason.contains("a checkpoint was signed up to position 304"), "{reason}");
    is_refused(server, "older copy");
}

/// Rewrites entries as an attacker who knows the format would: with correct checksums and, if `hashes`, with
/// the whole tree recomputed.
pub(crate) fn forge(data: &Path, hashes: bool, forge: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let database = Database::open(data.join("events.redb")).unwrap();
    let rows = |table: &redb::ReadOnlyTable<u64, &[u8]>| -> Vec<Vec<u8>> {
        table.iter().unwrap().map(|row| row.unwrap().1.value()[4..].to_vec()).collect()
    };
    let mut entries = rows(&database.begin_read().unwrap().open_table(ENTRIES).unwrap());
    forge(&mut entries);
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(ENTRIES).unwrap();
        table.retain(|_, _| false).unwrap();
        for (index, entry) in entries.iter().enumerate() {
            let row = [crc32(entry).to_le_bytes().as_slice(), entry].concat();
            table.insert(index as u64 + 1, row.as_slice()).unwrap();
        }
        if hashes {
            let leaves: Vec<[u8; 32]> = entries.iter().map(|it| hash(&[&[0], it])).collect();
            let mut tree = transaction.open_table(TREE).unwrap();
            tree.retain(|_, _| false).unwrap();
            for (index, leaves) in leaves.chunks_exact(256).enumerate() {
                tree.insert((8, index as u64), &root(leaves)).unwrap();
            }
            let mut frontier = (leaves.len() as u64).to_be_bytes().to_vec();
            let mut rest = leaves.as_slice();
            while !rest.is_empty() {
                let (subtree, after) = rest.split_at(1 << rest.len().ilog2());
                frontier.extend(root(subtree));
                rest = after;
            }
            transaction.open_table(META).unwrap().insert("frontier", frontier.as_slice()).unwrap();
        }
    }
    transaction.commit().unwrap();
}

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 },
        )
    })
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()
}

/// The root of a perfect subtree.
fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    if let [leaf] = leaves {
        return *leaf;
    }
    let (left, right) = leaves.split_at(leaves.len() / 2);
    hash(&[&[1], &root(left), &root(right)])
}

/// Edits the visible part of a key's token, because names are sealed.
pub(crate) fn rename(entries: &mut [Vec<u8>]) {
    let hint = |entry: &Vec<u8>| entry.windows(3).position(|it| it == b"kl_");
    let (entry, at) =
        entries.iter_mut().filter_map(|entry| hint(entry).map(|at| (entry, at))).nth(99).unwrap();
    entry[at] = b'K';
}

/// Removes the vault. With it, the edit of an attacker who cannot seal is noticed before any hash is
/// compared.
pub(crate) fn take_vault_away(data: &Path) {
    fs::remove_file(data.join("vault.redb")).unwrap();
}

#[test]
fn an_edited_record_is_detected_by_its_hash() {
    let mut server = stopped_server();
    forge(&server.data(), false, |entries| rename(entries));
    let (_, reason) = finding(&server.data());
    assert!(reason.contains("does not open with its key"), "{reason}");
    take_vault_away(&server.data());
    let (position, reason) = finding(&server.data());
    assert!(position <= 103 && reason.contains("do not have the hash"), "{position}: {reason}");
    // A service that runs on it finds it too, at the start, and when it is asked to verify the log.
    server.set_options(Options { arguments: serving_anyway(), ..Options::default() });
    server.start_again();
    let client = server.client();
    let ready = client.get("/readyz").expect(200).json();
    assert!(ready["log_inconsistent"].as_str().unwrap().contains("the log was changed"), "{ready}");
    client.post("/v1/log/verifications", &json!({})).expect(202);
    let found = log_verification::finished(&client);
    assert_eq!((&found["status"], &found["bad_position"]), (&json!("failed"), &json!(position)), "{found}");
    assert_eq!((&found["reason"], &found["root"]), (&json!(reason), &Value::Null), "{found}");
    let page = Browser::sign_in(&client, server.root_token()).get("/console/audit").expect_page(200);
    assert!(
        page.contains("The log is damaged or was changed.") && page.contains("do not have the hash"),
        "{page}"
    );
}

#[test]
fn an_edited_record_with_recomputed_hashes_is_detected_by_the_checkpoint() {
    let server = stopped_server();
    let checkpoint = fs::read_to_string(server.data().join("checkpoints.ndjson")).unwrap();
    forge(&server.data(), true, |entries| rename(entries));
    take_vault_away(&server.data());
    let (_, reason) = finding(&server.data());
    assert!(reason.contains("not those that a checkpoint was signed for"), "{reason}");
    // If the checkpoints are removed too, a copy of one kept elsewhere reveals the edit.
    let kept = tempfile::tempdir().unwrap();
    let file = kept.path().join("checkpoint");
    let last: Value = serde_json::from_str(checkpoint.lines().last().unwrap()).unwrap();
    fs::write(&file, last["checkpoint"].as_str().unwrap()).unwrap();
    fs::write(server.data().join("checkpoints.ndjson"), "").unwrap();
    let output = replay_tool(&["verify", "--checkpoint", file.to_str().unwrap()], &server.data());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    fs::write(server.data().join("checkpoints.ndjson"), checkpoint).unwrap();
    is_refused(server, "the log was changed");
}

#[test]
fn two_swapped_records_are_detected() {
    let server = stopped_server();
    forge(&server.data(), true, |entries| entries.swap(50, 51));
    let (position, reason) = finding(&server.data());
    assert_eq!(position, 51, "{reason}");
}

#[test]
fn a_truncated_log_is_detected() {
    let server = stopped_server();
    forge(&server.data(), true, |entries| entries.truncate(290));
    let (position, reason) = finding(&server.data());
    assert!(position <= 291, "{position}: {reason}");
    let output = replay_tool(&["verify"], &server.data());
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_log_key_is_readable_by_its_owner_only_and_keeps_its_name() {
    use std::os::unix::fs::PermissionsExt;
    let arguments = |origin: &str| vec!["--log-origin".to_owned(), origin.to_owned()];
    let mut server =
        Server::start_with(Options { arguments: arguments("keys.example.com/log"), ..Options::default() });
    let mode = fs::metadata(server.data().join("log-key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(checkpoint(&server.client()).starts_with("keys.example.com/log\n"));
    let before = server.client().get("/log/key").expect(200).text();
    server.stop();
    server.start_again();
    assert_eq!(server.client().get("/log/key").expect(200).text(), before);
    server.stop();
    fs::write(server.data().join("log-key"), "PRIVATE+KEY+a+b+c\n").unwrap();
    let refusal = server.try_start_again().unwrap_err();
    let said = refusal.message.lines().last().unwrap_or_default();
    assert!(said.starts_with("keyledger: ") && said.contains("log-key: not a signed-note key"), "{said}");
}
