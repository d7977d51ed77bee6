//! Starts on data with one damaged byte. Either everything is correct, or the service says in one line which
//! file is damaged and what to do.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

use keyledger_engine::storage::storage_panic::WHAT_TO_DO;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::{Options, Server};
use keyledger_tests::seed;
use rand::RngExt;

use crate::operations::stopped::{LOG, Stopped, VAULT, answers};

/// The outcome of a start on damaged data.
#[derive(Debug, PartialEq, Eq, Hash, Clone, Copy)]
enum Outcome {
    /// Everything was as before.
    Right,
    /// The service did not start and said why.
    Refused,
    /// The service started and refused some reads. The check of the log names the reason.
    Reported,
    /// The service started and serves nothing, because the log does not match its signed checkpoints.
    NotServed,
    /// The service started, could not continue writing, ended and said why. All its answers were correct.
    Ended,
}

/// Changes one byte of a file.
fn flip(path: &Path, offset: u64, mask: u8) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(&[byte[0] ^ mask]).unwrap();
}

fn try_damaged(stopped: &Stopped, tokens: &[String], file: &Path, offset: u64, mask: u8) -> Outcome {
    let what = format!("byte {offset} of {} changed by {mask:#04x}", file.display());
    let copy = stopped.copy();
    let data = copy.path().join("data");
    flip(&data.join(file), offset, mask);
    let check =
        Command::new(binaries::path("replay-tool")).args(["verify", "--data"]).arg(&data).output().unwrap();
    let complaint =
        String::from_utf8_lossy(&check.stderr).into_owned() + &String::from_utf8_lossy(&check.stdout);
    assert!(!complaint.contains("panicked"), "{what}: {complaint}");
    let options = Options { may_refuse_log: true, ..Options::default() };
    match Server::start_in(copy, &stopped.root_token, options) {
        Err(refusal) => {
            refusal.check(LOG);
            Outcome::Refused
        }
        Ok(server) if server.anonymous().get("/readyz").send().json()["log_inconsistent"].is_string() => {
            assert_ne!(
                check.status.code(),
                Some(0),
                "{what}: the service refuses a log that the tool verifies"
            );
            assert_eq!(server.client().get("/v1/keys").expect(503).code(), "log_inconsistent", "{what}");
            Outcome::NotServed
        }
        Ok(mut server) => {
            let answers = answers(&server.client(), tokens);
            if let Ok(answers) = &answers {
                stopped.check(answers, &what);
            }
            let status = server.stop();
            if !status.success() {
                let said = server.output();
                assert_eq!(status.code(), Some(2), "{what}: {said}");
                let line = said.trim_end().lines().last().unwrap_or_default();
                assert!(line.contains(LOG) && line.ends_with(WHAT_TO_DO), "{what}: {said}");
                return Outcome::Ended;
            }
            if answers.is_err() {
                let found = check.status.code() != Some(0);
                assert!(found, "{what}: the service cannot read a log that the tool verifies");
                return Outcome::Reported;
            }
            Outcome::Right
        }
    }
}

/// Offsets to damage: the file's head, and offsets of non-zero bytes.
fn offsets(path: &Path, count: usize, rng: &mut rand::rngs::StdRng) -> Vec<u64> {
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    let used: Vec<usize> = (0..bytes.len()).filter(|offset| bytes[*offset] != 0).collect();
    let head = [0, 9, 10, 64, 128, 200].into_iter().filter(|offset| *offset < bytes.len());
    let drawn = (0..count).map(|_| used[rng.random_range(0..used.len())]);
    head.chain(drawn).map(|offset| offset as u64).collect()
}

#[test]
fn one_changed_byte_in_the_log_is_reported_or_harmless() {
    let mut rng = seed::rng("one changed byte in the log");
    let (stopped, tokens) = Stopped::new();
    let mut outcomes = HashMap::<Outcome, usize>::new();
    for offset in offsets(&stopped.data().join(LOG), 120, &mut rng) {
        let outcome = try_damaged(&stopped, &tokens, Path::new(LOG), offset, 1 << rng.random_range(0..8));
        *outcomes.entry(outcome).or_default() += 1;
    }
    println!("{outcomes:?}");
}

/// Some bytes of the storage engine's list of free pages, which it trusts at the start, make it panic while
/// it panics. The service then ends, and must say how to lose no data.
#[test]
fn a_log_that_can_be_read_and_not_written_is_saved_by_a_backup() {
    let (stopped, tokens) = Stopped::new();
    let bytes = fs::read(stopped.data().join(LOG)).unwrap();
    // After a stop the list is in one of the first pages, with its counts shortly after the page's head.
    let pages = [3, 4, 2, 1, 5, 6];
    let places = pages.into_iter().flat_map(|page| (4_096 * page + 96)..(4_096 * page + 192));
    let found = places
        .filter(|place| bytes[*place] != 0)
        .find(|place| try_damaged(&stopped, &tokens, Path::new(LOG), *place as u64, 1) == Outcome::Ended);
    let place = found.expect("one of the bytes belongs to the list");

    let copy = stopped.copy();
    let data = copy.path().join("data");
    flip(&data.join(LOG), place as u64, 1);
    let (backup, restored) = (copy.path().join("saved"), tempfile::tempdir().unwrap());
    // The commands are those of docs/backup.md.
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let target = restored.path().join("data");
    let tool = || Command::new(binaries::path("replay-tool"));
    run(tool().args(["backup", "--with-keys", "--data"]).arg(&data).arg(&backup));
    run(tool().arg("restore").arg(&backup).arg("--data").arg(&target));
    fs::copy(data.join(VAULT), target.join(VAULT)).unwrap();
    let server = Server::start_in(restored, &stopped.root_token, Options::default()).unwrap();
    stopped.check(&answers(&server.client(), &tokens).unwrap(), "restored");
}

#[test]
fn one_changed_byte_in_a_projection_changes_no_answer() {
    let mut rng = seed::rng("one changed byte in a projection");
    let (stopped, tokens) = Stopped::new();
    let directory = stopped.data().join("projections");
    let files: Vec<_> =
        fs::read_dir(&directory).unwrap().flatten().filter(|it| it.path().is_file()).collect();
    assert!(!files.is_empty(), "there are projection files");
    for file in files {
        let name = Path::new("projections").join(file.file_name());
        for offset in offsets(&file.path(), 12, &mut rng) {
            let outcome = try_damaged(&stopped, &tokens, &name, offset, 1 << rng.random_range(0..8));
            assert_eq!(outcome, Outcome::Right, "{} at {offset}", name.display());
        }
    }
}
