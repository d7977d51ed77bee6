//! No other user of the machine can read what the programs write, whatever the permissions they start with.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use keyledger_tests::data::fixture::{key, organization};
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::Server;
use serde_json::json;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// All files and directories below `directory`.
fn everything(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything(&path));
        }
        found.push(path);
    }
    found
}

#[test]
fn files_are_created_for_their_owner_only() {
    let mut server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));
    client.post("/v1/keys/verify", &json!({ "token": issued.token })).expect(200);
    let open = |server: &Server| {
        everything(&server.data()).into_iter().filter(|it| mode(it) & 0o077 != 0).collect::<Vec<_>>()
    };
    assert_eq!(open(&server), Vec::<PathBuf>::new(), "while it runs");
    server.stop();
    assert_eq!(open(&server), Vec::<PathBuf>::new(), "after a stop");
    assert!(!server.output().contains("other users"), "{}", server.output());

    let directory = tempfile::tempdir().unwrap();
    let (events, proof) = (directory.path().join("events.csv"), directory.path().join("event.tlog-proof"));
    for arguments in [
        &["export", "--format", "csv", "--output", events.to_str().unwrap()][..],
        &["proof", "1", "--output", proof.to_str().unwrap()],
    ] {
        let mut tool = Command::new(binaries::path("replay-tool"));
        assert!(tool.args(arguments).arg("--data").arg(server.data()).output().unwrap().status.success());
    }
    let written = everything(directory.path());
    assert_eq!(written.len(), 3, "{written:?}");
    assert!(written.iter().all(|path| mode(path) == 0o600), "{written:?}");
}

#[test]
fn files_that_others_can_read_are_narrowed_and_an_open_directory_is_reported() {
    let mut server = Server::start();
    server.stop();
    let data = server.data();
    let files = [data.join("events.redb"), data.join("vault.redb"), data.join("projections/key-list.redb")];
    for file in &files {
        fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
    }
    fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    server.start_again();
    let output = server.output();
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
        let line = output.lines().find(|line| line.contains(file.to_str().unwrap()));
        assert!(line.is_some_and(|line| line.contains("they no longer can")), "{output}");
    }
    let warning = output.lines().find(|line| line.contains("may enter the data directory"));
    assert!(warning.is_some_and(|line| line.contains("755") && line.contains("chmod 700")), "{output}");
    assert_eq!(mode(&data), 0o755, "the directory is its operator's");
}
