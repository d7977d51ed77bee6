//! `kill -9` in the middle of long work: backups, restores and rebuilds, by the tool and by the service. The
//! files left behind can be used as they are, and the work can be repeated.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use keyledger_tests::data::fixture;
use keyledger_tests::data::large_log::{KeptKey, LargeLog};
use keyledger_tests::data::token;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::{Options, Server};
use keyledger_tests::{poll, seed};
use serde_json::json;

/// How often each kind of work is interrupted.
const KILLS: u32 = 10;
/// More keys than a projection applies in one batch at a start.
const KEYS: usize = 9_000;
const PROJECTIONS: [&str; 2] = ["key-list", "audit-trail"];

fn tool(arguments: &[&str]) -> Command {
    let mut command = Command::new(binaries::path("replay-tool"));
    command.args(arguments).env_remove("KEYLEDGER_DATA").env_remove("KEYLEDGER_URL");
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[track_caller]
fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output));
}

/// The duration of an undisturbed command.
#[track_caller]
fn time_of(command: &mut Command) -> Duration {
    let begin = Instant::now();
    succeeds(command);
    begin.elapsed()
}

/// Kills a command after this time. Returns whether it was still running.
fn killed_after(command: &mut Command, time: Duration) -> bool {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    thread::sleep(time);
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

/// Interrupts work of about this duration at ten points, evenly spread. `interrupt` does so after the time it
/// is given and returns whether the work was still running. If it was not, the machine has become faster and
/// the point is tried again.
fn interrupt_at_ten_points(mut time: Duration, mut interrupt: impl FnMut(u32, Duration) -> bool) {
    for point in 1..=KILLS {
        let mut tries = 0;
        while !interrupt(point, time * point / (KILLS + 1)) {
            tries += 1;
            assert!(tries < 20, "the work cannot be interrupted in the middle");
            time = time * 4 / 5;
        }
    }
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A running server with a large log, and some of its keys.
fn server(test: &str) -> (Server, Vec<KeptKey>) {
    let directory = tempfile::Builder::new().prefix("keyledger-test-").tempdir().unwrap();
    let mut log = LargeLog::begin(&directory.path().join("data"), seed::rng(test));
    log.organization("acme", "paid");
    let kept = log.keys("acme", None, KEYS);
    log.finish();
    (Server::start_in(directory, &token::root(), Options::default()).unwrap(), kept)
}

/// Checks that the service answers everything as before.
#[track_caller]
fn assert_whole(server: &Server, kept: &[KeptKey]) {
    let client = server.client();
    for key in kept {
        assert_eq!(fixture::code(&client, &key.token), "VALID");
    }
    let first = client.get("/v1/keys?organization_id=acme&sort=created_at&limit=1").expect(200).json();
    assert_eq!(first["total"], json!(KEYS));
    let newest = client.get("/v1/events?organization_id=acme&sort=-position&limit=1").expect(200).json();
    assert_eq!(newest["data"][0]["position"], json!(KEYS + 1));
    let projections = server.data().join("projections");
    let names: Vec<_> = names(&projections).into_iter().filter(|it| !it.ends_with(".snapshot")).collect();
    assert_eq!(names, ["audit-trail.redb", "key-list.redb"], "no unfinished file is left");
}

#[test]
fn a_killed_rebuild_by_the_tool_leaves_usable_data() {
    let (mut server, kept) = server("a rebuild by the tool");
    assert_whole(&server, &kept);
    server.stop();
    let data = server.data();
    let rebuild = || tool(&["rebuild", "--data", shown(&data)]);
    interrupt_at_ten_points(time_of(&mut rebuild()), |_, time| {
        let killed = killed_after(&mut rebuild(), time);
        succeeds(&mut tool(&["diff", "--data", shown(&data)]));
        killed
    });
    server.start_again();
    assert_whole(&server, &kept);
    server.stop();
    succeeds(&mut rebuild());
}

#[test]
fn a_killed_rebuild_by_the_service_leaves_usable_data() {
    let (mut server, kept) = server("a rebuild by the service");
    let ask = |server: &Server| {
        for name in PROJECTIONS {
            server.client().post(&format!("/v1/projections/{name}/rebuild"), &json!({})).expect(202);
        }
    };
    let under_way = |server: &Server| {
        let all = server.client().get("/v1/projections").expect(200).json();
        all["data"].as_array().unwrap().iter().any(|it| !it["rebuild"].is_null())
    };
    let begin = Instant::now();
    ask(&server);
    poll::until("the rebuilds", Duration::from_secs(60), || (!under_way(&server)).then_some(()));
    interrupt_at_ten_points(begin.elapsed(), |_, time| {
        ask(&server);
        thread::sleep(time);
        let killed = under_way(&server);
        server.kill();
        succeeds(&mut tool(&["diff", "--data", shown(&server.data())]));
        server.start_again();
        assert_whole(&server, &kept);
        killed
    });
}

#[test]
fn an_interrupted_backup_of_a_running_service_can_be_repeated() {
    let (mut server, kept) = server("a backup of a running service");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("the.backup");
    let backup = |server: &Server| {
        let mut command =
            tool(&["backup", "--url", &format!("http://{}", server.client().address()), shown(&file)]);
        command.env("KEYLEDGER_TOKEN", server.root_token());
        command
    };
    let time = time_of(&mut backup(&server));
    fs::remove_file(&file).unwrap();
    interrupt_at_ten_points(time, |point, time| {
        let interrupted = if point % 2 == 0 {
            killed_after(&mut backup(&server), time)
        } else {
            let mut child = backup(&server).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            thread::sleep(time);
            server.kill();
            let succeeded = child.wait().unwrap().success();
            assert_eq!(succeeded, file.exists(), "an unfinished backup has no name");
            server.start_again();
            assert_whole(&server, &kept);
            !succeeded
        };
        if file.exists() {
            // Otherwise it was already finished.
            let data = tempfile::tempdir().unwrap();
            succeeds(&mut tool(&["restore", shown(&file), "--data", shown(&data.path().join("data"))]));
            fs::remove_file(&file).unwrap();
        }
        interrupted
    });
    succeeds(&mut backup(&server));
    for name in names(directory.path()) {
        assert!(name == "the.backup" || name.starts_with(".keyledger-backup-"), "{name}");
    }
}

#[test]
fn interrupted_backups_and_restores_of_a_stopped_service_can_be_repeated() {
    let (mut server, kept) = server("a backup and a restore");
    server.stop();
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| -> PathBuf { directory.path().join(name) };
    let backup = |file: &Path| tool(&["backup", "--data", shown(&server.data()), "--with-keys", shown(file)]);
    let file = place("the.backup");
    let time = time_of(&mut backup(&place("first.backup")));
    interrupt_at_ten_points(time, |_, time| {
        let killed = killed_after(&mut backup(&file), time);
        if file.exists() {
            // Otherwise it was already finished.
            let data = tempfile::tempdir().unwrap();
            succeeds(&mut tool(&["restore", shown(&file), "--data", shown(&data.path().join("data"))]));
            fs::remove_file(&file).unwrap();
        }
        killed
    });
    succeeds(&mut backup(&file));
    succeeds(&mut tool(&["verify", "--data", shown(&server.data())]));

    let data = place("data");
    let restore = || tool(&["restore", shown(&file), "--data", shown(&data)]);
    let time = time_of(&mut restore());
    fs::remove_dir_all(&data).unwrap();
    interrupt_at_ten_points(time, |_, time| {
        let killed = killed_after(&mut restore(), time);
        if data.exists() {
            // Otherwise it was already finished.
            succeeds(&mut tool(&["verify", "--data", shown(&data)]));
            fs::remove_dir_all(&data).unwrap();
        }
        killed
    });
    succeeds(&mut restore());
    succeeds(&mut tool(&["verify", "--data", shown(&data)]));

    let restored = tempfile::Builder::new().prefix("keyledger-test-").tempdir().unwrap();
    fs::rename(&data, restored.path().join("data")).unwrap();
    let root_token = server.root_token().to_owned();
    let restored = Server::start_in(restored, &root_token, Options::default()).unwrap();
    let client = restored.client();
    for key in &kept {
        assert_eq!(fixture::code(&client, &key.token), "VALID");
    }
}
