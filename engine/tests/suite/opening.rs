//! Files that cannot be opened: one line that names the file and says what to do.

use std::fs;
use std::path::Path;

use keyledger_engine::log::redb::{FILE_NAME, FORMAT, RedbLog, RedbOptions, RedbReader};
use keyledger_engine::log::{Error, EventLog, LogReader};
use keyledger_engine::position::Position;
use rand::rngs::SysRng;
use redb::{Database, TableDefinition};
use tempfile::TempDir;

use crate::samples;

fn open(path: &Path) -> Result<RedbLog, Error> {
    RedbLog::open(path, RedbOptions::default(), samples::vault(), &mut SysRng)
}

fn assert_refused<T>(path: &Path, result: Result<T, Error>, words: &str) {
    let Err(Error::Open(text)) = result else { panic!("not refused, or otherwise: {words}") };
    assert!(text.starts_with(&path.display().to_string()), "{text}");
    assert!(text.contains(words) && text.contains(';') && !text.contains('\n'), "{text}");
}

#[test]
fn what_cannot_be_opened_is_said_in_one_line() {
    let directory = TempDir::new().unwrap();
    let missing = directory.path().join("missing").join(FILE_NAME);
    assert_refused(&missing, open(&missing), "is missing; create it");

    let path = directory.path().join(FILE_NAME);
    assert_refused(
        &path,
        RedbReader::open_read_only(&path, RedbOptions::default(), samples::vault()),
        "missing",
    );
    fs::write(&path, "no log at all, but text that is longer than a header is").unwrap();
    assert_refused(&path, open(&path), "not a Keyledger event log");
    assert_refused(
        &path,
        RedbReader::open_read_only(&path, RedbOptions::default(), samples::vault()),
        "not a Keyledger event log",
    );
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    assert_refused(&path, open(&path), "is a directory");
    fs::remove_dir(&path).unwrap();

    let log = open(&path).unwrap();
    assert_refused(&path, open(&path), "in use by another process");
    assert_refused(
        &path,
        RedbReader::open_read_only(&path, RedbOptions::default(), samples::vault()),
        "in use by another process",
    );
    drop(log);
    drop(open(&path).unwrap());
}

#[test]
fn a_file_without_permission_is_said_in_one_line() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE_NAME);
    drop(open(&path).unwrap());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    // The superuser may write to it all the same.
    if fs::OpenOptions::new().append(true).open(&path).is_err() {
        assert_refused(&path, open(&path), "right to read and write");
    }
}

#[test]
fn other_files_of_the_same_engine_are_no_logs() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE_NAME);
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(TableDefinition::<u64, u64>::new("other")).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert_refused(&path, open(&path), "not a Keyledger event log");
}

#[test]
fn a_log_of_a_newer_version_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE_NAME);
    drop(open(&path).unwrap());
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = TableDefinition::<&str, &[u8]>::new("meta");
    transaction.open_table(meta).unwrap().insert("format", (FORMAT + 1).to_be_bytes().as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert_refused(&path, open(&path), "newer version");
}

#[test]
fn a_creation_that_was_cut_short_is_begun_again() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE_NAME);
    fs::write(path.with_extension("redb.new"), [0; 8_192]).unwrap();
    drop(open(&path).unwrap());
    let names: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [FILE_NAME]);
}

/// A process that was killed leaves the file as it is at that moment.
#[test]
fn a_log_that_was_not_closed_can_be_read_without_writing_to_it() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE_NAME);
    let mut log = open(&path).unwrap();
    log.append((1..100).map(|number| samples::issue(number, "a name")).collect()).unwrap();
    let left = directory.path().join("left.redb");
    fs::copy(&path, &left).unwrap();
    let before = fs::read(&left).unwrap();
    let reader = RedbReader::open_read_only(&left, RedbOptions::default(), samples::vault()).unwrap();
    assert_eq!(reader.log_id(), log.reader().log_id());
    let report = reader.verify(|_, _| {}).unwrap();
    assert_eq!((report.head, report.finding), (Position::new(99), None));
    assert_eq!(report.root, log.reader().frontier().unwrap().root());
    drop(reader);
    assert_eq!(fs::read(&left).unwrap(), before);
}
