//! Files that cannot be opened: the error is one line that names the file and says what to do.

use std::fs;
use std::path::Path;

use keyledger_engine::log::redb::{FILE_NAME, FORMAT, RedbLog, RedbOptions, RedbReader};
use keyledger_engine::log::{Error, EventLog, LogReader};
use keyledger_engine::value::position::Position;
use rand::rngs::SysRng;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tempfile::TempDir;

use crate::samples;

fn open(path: &Path) -> Result<RedbLog, Error> {
    RedbLog::open(path, RedbOptions::default(), samples::vault(), &mut SysRng)
}

fn assert_refused<T>(path: &Path, result: Result<T, Error>, words: &str) {
    let Err(Error::Open(text) | Error::DamagedFile(text)) = result else {
        panic!("not refused with: {words}")
    };
    assert!(text.starts_with(&path.display().to_string()), "{text}");
    assert!(text.contains(words) && text.contains(';') && !text.contains('\n'), "{text}");
}

#[test]
fn an_error_of_opening_is_one_line() {
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
fn an_error_of_permissions_is_one_line() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE_NAME);
    drop(open(&path).unwrap());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    // The superuser can write to it anyway.
    if fs::OpenOptions::new().append(true).open(&path).is_err() {
        assert_refused(&path, open(&path), "right to read and write");
    }
}

#[test]
fn other_databases_of_the_storage_engine_are_refused() {
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
fn an_interrupted_creation_is_repeated() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE_NAME);
    fs::write(path.with_extension("redb.new"), [0; 8_192]).unwrap();
    drop(open(&path).unwrap());
    let mut names: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["events.journal", FILE_NAME]);
}

/// The files of a running process, copied as if it had been killed now.
fn left_by_a_killed_process() -> (TempDir, TempDir, RedbLog) {
    let (running, left) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let path = running.path().join(FILE_NAME);
    let mut log = open(&path).unwrap();
    for group in 0..3 {
        let issue = |number: u64| samples::issue(group * 33 + number, "a name");
        log.append((1..=33).map(issue).collect()).unwrap();
    }
    for file in [FILE_NAME, "events.journal"] {
        fs::copy(running.path().join(file), left.path().join(file)).unwrap();
    }
    (running, left, log)
}

fn read_only(directory: &TempDir) -> Result<RedbReader, Error> {
    let path = directory.path().join(FILE_NAME);
    RedbReader::open_read_only(&path, RedbOptions::default(), samples::vault())
}

#[test]
fn a_log_that_was_not_closed_can_be_read_without_writing_to_it() {
    let (_running, left, log) = left_by_a_killed_process();
    let files = [FILE_NAME, "events.journal"].map(|file| left.path().join(file));
    let before = files.each_ref().map(|file| fs::read(file).unwrap());
    let reader = read_only(&left).unwrap();
    assert_eq!(reader.log_id(), log.reader().log_id());
    let report = reader.verify(|_, _| {}).unwrap();
    assert_eq!((report.head, report.finding), (Position::new(99), None));
    assert_eq!(report.root, log.reader().frontier().unwrap().root());
    drop(reader);
    assert!(files.map(|file| fs::read(file).unwrap()) == before, "a file was written to");
}

#[test]
fn events_in_the_journal_are_never_lost_silently() {
    let (_running, left, log) = left_by_a_killed_process();
    let (path, journal) = (left.path().join(FILE_NAME), left.path().join("events.journal"));
    let held = fs::read(&journal).unwrap();
    fs::remove_file(&journal).unwrap();
    assert_refused(&journal, read_only(&left), "missing, and it may hold the newest events");
    assert_refused(&journal, open(&path), "missing, and it may hold the newest events");
    fs::write(&journal, []).unwrap();
    assert_refused(&journal, read_only(&left), "it ends too early");
    fs::write(&journal, &held[..held.len() / 2]).unwrap();
    assert_refused(&journal, read_only(&left), "it ends too early");
    assert_refused(&journal, open(&path), "it ends too early");
    let mut damaged = held.clone();
    damaged[100] ^= 1;
    fs::write(&journal, damaged).unwrap();
    assert_refused(&journal, read_only(&left), "a frame before its last one is damaged");
    assert_refused(&journal, open(&path), "a frame before its last one is damaged");

    fs::write(&journal, held).unwrap();
    let opened = open(&path).unwrap();
    assert_eq!(opened.reader().head().unwrap(), Position::new(99));
    assert_eq!(opened.reader().frontier().unwrap(), log.reader().frontier().unwrap());
}

#[test]
fn an_operator_can_discard_the_journal() {
    let (_running, left, _log) = left_by_a_killed_process();
    let journal = left.path().join("events.journal");
    let refusal = {
        fs::remove_file(&journal).unwrap();
        read_only(&left).err().unwrap().to_string()
    };
    assert!(refusal.contains("write `go on without it` and nothing else into that file"), "{refusal}");
    fs::write(&journal, "go on without it\n").unwrap();
    assert_eq!(read_only(&left).unwrap().head().unwrap(), Position::new(33));
    let mut log = open(&left.path().join(FILE_NAME)).unwrap();
    assert_eq!(log.reader().head().unwrap(), Position::new(33));
    log.append(vec![samples::issue(1_000, "after")]).unwrap();
    log.checkpoint_journal().unwrap();
    let report = log.redb_reader().verify(|_, _| {}).unwrap();
    assert_eq!((report.head, report.finding), (Position::new(34), None));
    assert_eq!(fs::metadata(&journal).unwrap().len(), RedbOptions::default().journal_bytes);
}

#[test]
fn a_log_that_was_closed_needs_no_journal() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE_NAME);
    let mut log = open(&path).unwrap();
    for number in 1..=3 {
        log.append(vec![samples::issue(number, "a name")]).unwrap();
    }
    drop(log);
    fs::remove_file(directory.path().join("events.journal")).unwrap();
    assert_eq!(read_only(&directory).unwrap().head().unwrap(), Position::new(3));
    assert_eq!(open(&path).unwrap().reader().head().unwrap(), Position::new(3));
}

/// Layout 1 had no journal.
#[test]
fn a_log_of_layout_1_is_upgraded() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE_NAME);
    let mut log = open(&path).unwrap();
    log.append(vec![samples::issue(1, "a name")]).unwrap();
    drop(log);
    fs::remove_file(directory.path().join("events.journal")).unwrap();
    let meta = TableDefinition::<&str, &[u8]>::new("meta");
    let format = || {
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_read().unwrap();
        let table = transaction.open_table(meta).unwrap();
        let format = table.get("format").unwrap().unwrap();
        format.value().to_vec()
    };
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(meta).unwrap().insert("format", [0, 0, 0, 1].as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert_eq!(read_only(&directory).unwrap().head().unwrap(), Position::new(1));
    let mut log = open(&path).unwrap();
    log.append(vec![samples::issue(2, "a name")]).unwrap();
    drop(log);
    assert_eq!(format(), FORMAT.to_be_bytes());
    assert_eq!(read_only(&directory).unwrap().head().unwrap(), Position::new(2));
}

/// The journal of layout 2 had one region, and therefore one salt.
#[test]
fn a_journal_of_one_region_is_recovered() {
    let (_running, left, log) = left_by_a_killed_process();
    let path = left.path().join(FILE_NAME);
    let meta = TableDefinition::<&str, &[u8]>::new("meta");
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(meta).unwrap();
        let note = table.get("journal").unwrap().unwrap().value().to_vec();
        table.insert("journal", [&note[..16], &note[32..]].concat().as_slice()).unwrap();
        table.insert("format", [0, 0, 0, 2].as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    assert_eq!(read_only(&left).unwrap().head().unwrap(), Position::new(99));
    let mut opened = open(&path).unwrap();
    assert_eq!(opened.reader().frontier().unwrap(), log.reader().frontier().unwrap());
    opened.append(vec![samples::issue(1_000, "after")]).unwrap();
    drop(opened);
    assert_eq!(read_only(&left).unwrap().head().unwrap(), Position::new(100));
}

#[test]
fn a_journal_without_frames_gets_its_length_and_space() {
    let directory = TempDir::new().unwrap();
    let (path, journal) = (directory.path().join(FILE_NAME), directory.path().join("events.journal"));
    drop(open(&path).unwrap());
    let len = RedbOptions::default().journal_bytes;
    // Truncated, or sparse.
    for left in [0, 5_000, len] {
        let file = fs::File::create(&journal).unwrap();
        file.set_len(left).unwrap();
        drop(open(&path).unwrap());
        let made = fs::metadata(&journal).unwrap();
        assert_eq!(made.len(), len);
        assert!(std::os::unix::fs::MetadataExt::blocks(&made) * 512 >= len, "{made:?}");
    }
}
