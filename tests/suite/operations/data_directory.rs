//! The states a data directory can be in at the start: missing, in use, from a newer version, incomplete. The
//! service either works correctly, or says in one line which file is at fault and what to do.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{self, key, organization};
use keyledger_tests::data::token;
use keyledger_tests::poll;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::{Options, Refusal, Server, free_address};
use serde_json::json;

use crate::operations::stopped::{LOG, Stopped, VAULT};

fn root_token() -> String {
    // Any root key works: the first start stores it, and a later start must not mind it.
    token::root()
}

/// Runs `keyledger serve` on a directory that it must refuse.
#[track_caller]
fn refused(data: &Path) -> Refusal {
    let mut command = Command::new(binaries::path("keyledger"));
    command.args(["serve", "--listen", &free_address().to_string(), "--data"]).arg(data);
    refusal(&mut command)
}

#[track_caller]
fn refusal(command: &mut Command) -> Refusal {
    let Output { status, stderr, stdout } = command
        .env("KEYLEDGER_BOOTSTRAP_ROOT_KEY", root_token())
        .output()
        .expect("the binary can be started");
    assert!(!status.success(), "{}", String::from_utf8_lossy(&stdout));
    Refusal { status, message: String::from_utf8_lossy(&stderr).into_owned() }
}

#[test]
fn a_missing_directory_is_created_unless_its_parent_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_in(directory, &root_token(), Options::default()).unwrap();
    assert!(server.data().join(LOG).is_file());

    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("not/there");
    let refusal = refused(&data);
    refusal.check(&data.display().to_string());
    assert!(!directory.path().join("not").exists());
}

#[test]
fn a_file_in_place_of_the_directory_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    fs::write(&data, "x").unwrap();
    refused(&data).check(&data.display().to_string());
}

#[test]
fn an_unwritable_directory_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    unprivileged_refusal(directory.path(), &data).check(&data.display().to_string());
}

#[test]
fn an_unwritable_log_is_reported() {
    let (stopped, _) = Stopped::new();
    let data = stopped.data();
    fs::set_permissions(stopped.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(data.join("projections"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(data.join(LOG), fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(data.join(VAULT), fs::Permissions::from_mode(0o666)).unwrap();
    unprivileged_refusal(stopped.directory.path(), &data).check(LOG);
}

#[test]
fn an_unwritable_vault_is_reported() {
    let (stopped, _) = Stopped::new();
    let data = stopped.data();
    fs::set_permissions(stopped.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(data.join("projections"), fs::Permissions::from_mode(0o777)).unwrap();
    unprivileged_refusal(stopped.directory.path(), &data).check(VAULT);
}

#[test]
fn a_file_that_is_not_a_vault_is_reported() {
    let (stopped, _) = Stopped::new();
    for bytes in [b"".as_slice(), b"hello", &[0; 8_192], &[0xFF; 100_000]] {
        fs::write(stopped.data().join(VAULT), bytes).unwrap();
        refused(&stopped.data()).check(VAULT);
        assert_eq!(fs::read(stopped.data().join(VAULT)).unwrap(), bytes, "a foreign file is not changed");
    }
}

/// Runs the service as an unprivileged user, because permissions do not apply to root.
fn unprivileged_refusal(directory: &Path, data: &Path) -> Refusal {
    let is_root = rustix::process::getuid().is_root();
    // The binary may be in a directory that the user cannot read.
    let program = directory.join("keyledger");
    fs::copy(binaries::path("keyledger"), &program).unwrap();
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command
    } else {
        Command::new(&program)
    };
    command.args(["serve", "--listen", &free_address().to_string(), "--data"]).arg(data);
    refusal(&mut command)
}

#[test]
fn a_log_in_use_is_reported() {
    let server = Server::start();
    let refusal = refused(&server.data());
    refusal.check(VAULT);
    assert!(refusal.message.contains("another process"), "{}", refusal.message);
    server.client().get("/v1/keys").expect(200);
}

#[test]
fn an_address_in_use_is_reported() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(binaries::path("keyledger"));
    let address = server.anonymous().address().to_string();
    command.args(["serve", "--listen", &address, "--data"]).arg(directory.path().join("data"));
    refusal(&mut command).check(&address);
}

#[test]
fn an_invalid_bootstrap_root_key_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    for wrong in ["klroot_x", &token::with_wrong_checksum(&token::root()), &token::unknown("kl", "live")] {
        let mut command = Command::new(binaries::path("keyledger"));
        command
            .args(["serve", "--listen", &free_address().to_string(), "--data"])
            .arg(directory.path().join("data"));
        let Output { status, stderr, .. } =
            command.env("KEYLEDGER_BOOTSTRAP_ROOT_KEY", wrong).output().unwrap();
        let message = String::from_utf8_lossy(&stderr).into_owned();
        assert!(!message.contains(wrong), "a secret is not repeated: {message}");
        Refusal { status, message }.check("KEYLEDGER_BOOTSTRAP_ROOT_KEY");
    }
}

#[test]
fn a_file_that_is_not_a_log_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    for bytes in [b"".as_slice(), b"hello", &[0; 8_192], &[0xFF; 100_000]] {
        let data = directory.path().join("data");
        let _ = fs::remove_dir_all(&data);
        fs::create_dir(&data).unwrap();
        fs::write(data.join(LOG), bytes).unwrap();
        refused(&data).check(LOG);
        assert_eq!(fs::read(data.join(LOG)).unwrap(), bytes, "a foreign file is not changed");
    }
}

#[test]
fn a_log_from_a_newer_version_is_reported() {
    let (stopped, _) = Stopped::new();
    let table = redb::TableDefinition::<&str, &[u8]>::new("meta");
    let database = redb::Database::open(stopped.data().join(LOG)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert("format", 99_u32.to_be_bytes().as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let refusal = refused(&stopped.data());
    refusal.check(LOG);
    assert!(refusal.message.contains("newer version"), "{}", refusal.message);
}

#[test]
fn a_truncated_log_is_reported() {
    let (stopped, _) = Stopped::new();
    let length = fs::metadata(stopped.data().join(LOG)).unwrap().len();
    for part in [length - 4_096, length / 2, 4_096, 100] {
        let copy = stopped.copy();
        OpenOptions::new()
            .write(true)
            .open(copy.path().join("data").join(LOG))
            .unwrap()
            .set_len(part)
            .unwrap();
        refused(&copy.path().join("data")).check(LOG);
    }
}

#[test]
fn a_root_key_can_be_created_while_the_service_is_stopped() {
    let (stopped, _) = Stopped::new();
    let made = Command::new(binaries::path("keyledger"))
        .args(["root-key", "create", "--permission", "keys:verify", "--data"])
        .arg(stopped.data())
        .output()
        .unwrap();
    let second = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    token::check(&second, "klroot_");
    let server = Server::start_in(stopped.directory, &stopped.root_token, Options::default()).unwrap();
    server.anonymous().with_token(&second).get("/v1/root-keys").expect(403);
}

/// A command whose standard output accepts nothing, as on a full disk.
fn unheard(binary: &str, arguments: &[&str], data: &Path) -> Refusal {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(binaries::path(binary))
        .args(arguments)
        .arg("--data")
        .arg(data)
        .env_remove("KEYLEDGER_BOOTSTRAP_ROOT_KEY")
        .stdout(full)
        .output()
        .expect("the binary can be started");
    Refusal { status: output.status, message: String::from_utf8_lossy(&output.stderr).into_owned() }
}

#[test]
fn a_command_that_cannot_print_its_result_fails_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    // The first start writes the root key to a file, which cannot be created here.
    fs::create_dir_all(data.join("first-root-key.new")).unwrap();
    let address = free_address().to_string();
    let serve = ["serve", "--listen", &address];
    let refusal = unheard("keyledger", &serve, &data);
    assert_eq!(refusal.status.code(), Some(2));
    assert!(refusal.message.contains("first-root-key: "), "{}", refusal.message);
    assert!(refusal.message.contains("no root key was created"), "{}", refusal.message);
    let create = ["root-key", "create", "--permission", "keys:verify"];
    let refusal = unheard("keyledger", &create, &data);
    assert_eq!(refusal.status.code(), Some(2));
    refusal.check("no root key was created");
    for arguments in [&["verify"][..], &["verify", "--json"], &["diff"], &["stats"], &["--help"]] {
        let refusal = unheard("replay-tool", arguments, &data);
        assert_eq!(refusal.status.code(), Some(2), "{arguments:?}: {}", refusal.message);
        refusal.check("standard output");
    }
    // So the next start is a first start.
    let server = Server::start_in(directory, &root_token(), Options::default()).unwrap();
    let keys = server.client().get("/v1/root-keys").expect(200).json();
    assert_eq!(keys["data"].as_array().unwrap().len(), 1, "{keys}");
}

#[test]
fn a_service_continues_when_its_log_lines_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (reader, broken) = std::io::pipe().unwrap();
    drop(reader);
    for (number, errors) in [std::process::Stdio::from(full()), broken.into()].into_iter().enumerate() {
        let (address, root_token) = (free_address(), root_token());
        let mut child = Command::new(binaries::path("keyledger"))
            .args(["serve", "--listen", &address.to_string(), "--data"])
            .arg(directory.path().join(number.to_string()))
            .env("KEYLEDGER_BOOTSTRAP_ROOT_KEY", &root_token)
            .env("RUST_LOG", "debug")
            .stdout(full())
            .stderr(errors)
            .spawn()
            .unwrap();
        let client = Client::new(address, keyledger_tests::client::transcript::Transcript::default());
        let client = client.with_token(&root_token);
        poll::until("the server to be ready", std::time::Duration::from_secs(30), || {
            client.get("/readyz").try_send().ok().filter(|it| it.status == 200)
        });
        let organization = organization(&client, "paid");
        let issued = key(&client, &organization, json!({}));
        let late = client.get("/v1/keys").header("keyledger-min-position", "99999").send();
        assert_eq!(late.status, 503, "{}", late.text());
        assert_eq!(fixture::code(&client, &issued.token), "VALID");
        assert_eq!(child.try_wait().unwrap(), None, "it has ended");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_missing_log_is_not_replaced_by_a_new_one() {
    let (stopped, _) = Stopped::new();
    let data = stopped.directory.path().join("data");
    let log = data.join(LOG);
    fs::rename(&log, data.join("elsewhere")).unwrap();
    refused(&data).check("events.redb: missing");
    assert!(!log.exists());
    fs::rename(data.join("elsewhere"), &log).unwrap();
    let server = Server::start_in(stopped.directory, &stopped.root_token, Options::default()).unwrap();
    server.client().get("/v1/keys").expect(200);
}

#[test]
fn a_missing_journal_of_a_killed_service_is_reported() {
    let mut server = Server::start();
    let organization = organization(&server.client(), "paid");
    let (data, root_token) = (server.data(), server.root_token().to_owned());
    let (journal, aside) = (data.join("events.journal"), data.join("aside"));
    let mut tokens = Vec::new();
    // After an idle second the journal is empty, so a slow machine may need another attempt.
    for _ in 0..10 {
        tokens.extend((0..20).map(|_| key(&server.client(), &organization, json!({})).token));
        server.kill();
        fs::rename(&journal, &aside).unwrap();
        let replay = Command::new(binaries::path("replay-tool"))
            .args(["verify", "--data"])
            .arg(&data)
            .output()
            .unwrap();
        if !replay.status.success() {
            let text = String::from_utf8(replay.stderr).unwrap();
            assert!(text.contains("events.journal: missing, and it may hold the newest events"), "{text}");
            break;
        }
        fs::rename(&aside, &journal).unwrap();
        server.start_again();
    }
    refused(&data).check("events.journal: missing, and it may hold the newest events; restore it");
    fs::rename(&aside, &journal).unwrap();
    let server = Server::start_in(server.into_directory(), &root_token, Options::default()).unwrap();
    for token in &tokens {
        assert_eq!(fixture::code(&server.client(), token), "VALID");
    }
}

#[test]
fn a_refused_start_creates_no_key_in_place_of_a_missing_one() {
    let (stopped, _) = Stopped::new();
    let data = stopped.directory.path().join("data");
    let (key, verifier, vault) = (data.join("log-key"), data.join("log-key.pub"), data.join("vault.redb"));
    let before = fs::read(&verifier).unwrap();
    for path in [&key, &vault] {
        fs::rename(path, path.with_extension("elsewhere")).unwrap();
    }
    for _ in 0..2 {
        refused(&data).check("log-key: missing");
        assert!(!key.exists() && !vault.exists());
    }
    // A start with another log's key is refused too, and leaves nothing behind.
    fs::rename(vault.with_extension("elsewhere"), &vault).unwrap();
    let other = Server::start();
    fs::copy(other.data().join("log-key"), &key).unwrap();
    refused(&data).check("restore the key that signed it");
    assert_eq!(fs::read(&verifier).unwrap(), before);
    fs::rename(key.with_extension("elsewhere"), &key).unwrap();
    let server = Server::start_in(stopped.directory, &stopped.root_token, Options::default()).unwrap();
    server.client().get("/v1/keys").expect(200);
    assert_eq!(fs::read(&verifier).unwrap(), before);
}

#[test]
fn a_wrong_command_line_is_reported_in_one_line() {
    for arguments in [&["serve", "--listen", "x"][..], &[], &["serve", "--max-connections", "0"], &["verify"]]
    {
        let output = Command::new(binaries::path("keyledger")).args(arguments).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        Refusal { status: output.status, message }.check("keyledger --help");
    }
}
