//! Readers beside a writer that checkpoints all the time: they find every record, wherever it is at that
//! moment.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keyledger_engine::log::redb::{FILE_NAME, RedbLog, RedbOptions};
use keyledger_engine::log::{AppendOutcome, Error, EventLog, LogReader};
use keyledger_engine::value::position::Position;
use rand::RngExt;
use rand::rngs::StdRng;
use tempfile::TempDir;

use crate::disk::{Disk, Faults, rng};
use crate::samples;

const GROUPS: u64 = 300;
const GROUP_LEN: u64 = 16;
/// Regions that hold a few groups.
const OPTIONS: RedbOptions = RedbOptions { cache_bytes: 1 << 20, journal_bytes: 48 * 1024 };

/// Reads in a random way after `acknowledged` records were appended, and checks the result.
fn read(reader: &dyn LogReader, acknowledged: u64, rng: &mut StdRng) {
    let head = reader.head().unwrap().get();
    assert!(head >= acknowledged, "the head is {head} after {acknowledged}");
    let number = rng.random_range(1..=acknowledged);
    match rng.random_range(0..6) {
        0 => {
            let after = rng.random_range(acknowledged.saturating_sub(400)..acknowledged);
            let len = rng.random_range(1..500);
            let records = reader.read(Position::new(after), len).unwrap();
            assert!(records.len() >= len.min(usize::try_from(acknowledged - after).unwrap()));
            let positions = records.iter().map(|record| record.position.get());
            assert!(positions.eq(after + 1..=after + records.len() as u64));
        }
        1 => {
            let stream = samples::issue(number, "a name").stream;
            let found = reader.read_stream(&stream).unwrap();
            assert_eq!((found.records.len(), found.records[0].position.get()), (1, number));
        }
        2 => {
            let commands = reader.commands(Position::new(number - 1), 100).unwrap();
            assert!(commands.len() as u64 >= (acknowledged - number + 1).min(100));
            let firsts = commands.iter().map(|(_, command)| command.first.get());
            assert!(firsts.eq(number..number + commands.len() as u64));
        }
        3 => {
            let hashes = reader.subtree_hashes(8, 0, usize::MAX).unwrap().len() as u64;
            assert!(hashes >= acknowledged / 256);
        }
        4 => {
            let id = samples::issue(number, "a name").command.unwrap().id;
            assert_eq!(reader.find_command(&id).unwrap().first.get(), number);
        }
        _ => assert!(reader.frontier().unwrap().size() >= acknowledged),
    }
}

#[test]
fn readers_find_everything_while_the_log_checkpoints() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE_NAME);
    let mut log = RedbLog::open(&path, OPTIONS, samples::vault(), &mut rng(1)).unwrap();
    let (reader, redb_reader) = (log.reader(), log.redb_reader());
    let acknowledged = Arc::new(AtomicU64::new(0));
    thread::scope(|scope| {
        for seed in 0..3 {
            let (reader, acknowledged) = (Arc::clone(&reader), Arc::clone(&acknowledged));
            scope.spawn(move || {
                let mut rng = rng(seed);
                loop {
                    match acknowledged.load(Ordering::SeqCst) {
                        0 => thread::yield_now(),
                        len => read(&*reader, len, &mut rng),
                    }
                    if acknowledged.load(Ordering::SeqCst) == GROUPS * GROUP_LEN {
                        break;
                    }
                }
            });
        }
        // A verification reads the database, which grows meanwhile.
        scope.spawn(|| {
            while acknowledged.load(Ordering::SeqCst) < GROUPS * GROUP_LEN {
                let report = redb_reader.verify_while(&[], 1, |_, _| ControlFlow::Continue(())).unwrap();
                assert_eq!(report.finding, None);
            }
        });
        for group in 0..GROUPS {
            let issue = |number| samples::issue(group * GROUP_LEN + number, "a name");
            let outcomes = log.append((1..=GROUP_LEN).map(issue).collect()).unwrap();
            assert!(outcomes.iter().all(|outcome| matches!(outcome, AppendOutcome::Appended { .. })));
            acknowledged.fetch_add(GROUP_LEN, Ordering::SeqCst);
        }
    });
    let before = (reader.read(Position::START, usize::MAX).unwrap(), reader.frontier().unwrap());
    drop((log, reader, redb_reader));
    let log = RedbLog::open(&path, OPTIONS, samples::vault(), &mut rng(1)).unwrap();
    let reader = log.redb_reader();
    assert_eq!((reader.read(Position::START, usize::MAX).unwrap(), reader.frontier().unwrap()), before);
    let report = reader.verify(|_, _| {}).unwrap();
    assert_eq!((report.finding, report.head.get()), (None, GROUPS * GROUP_LEN));
}

/// Pending records count when conditions are checked, and so do checkpointed ones.
#[test]
fn conditions_are_checked_against_pending_and_stored_records() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE_NAME);
    let mut log = RedbLog::open(&path, OPTIONS, samples::vault(), &mut rng(1)).unwrap();
    let mut rng = rng(7);
    let mut heads = Vec::new();
    for number in 1..400 {
        let outcome = log.append(vec![samples::issue(number, "a name")]).unwrap().pop().unwrap();
        let AppendOutcome::Appended { records, head } = outcome else { panic!("{outcome:?}") };
        heads.push((records[0].stream.clone(), head));
        let index = rng.random_range(0..heads.len());
        let (stream, head) = heads[index].clone();
        let rename = |number| samples::rename(stream.clone(), head, number);
        let outcomes = log.append(vec![rename(number), rename(number + 1_000)]).unwrap();
        let AppendOutcome::Appended { head, .. } = &outcomes[0] else { panic!("{outcomes:?}") };
        assert!(matches!(outcomes[1], AppendOutcome::Conflict));
        heads[index].1 = *head;
        let again = samples::issue(rng.random_range(1..=number), "another name");
        let outcome = log.append(vec![keyledger_engine::log::Append { command: None, ..again }]).unwrap();
        assert!(matches!(outcome[0], AppendOutcome::Conflict));
    }
    for (stream, head) in heads {
        assert_eq!(log.reader().read_stream(&stream).unwrap().head, head);
    }
}

/// Readers beside a writer that recovers again and again.
#[test]
fn readers_find_everything_or_get_unavailable_while_the_log_recovers() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE_NAME);
    let mut log = RedbLog::open(&path, OPTIONS, samples::vault(), &mut rng(1)).unwrap();
    let reader = log.reader();
    let (acknowledged, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let before = acknowledged.load(Ordering::SeqCst);
                match reader.read(Position::START, usize::MAX) {
                    Ok(records) => {
                        assert!(records.len() as u64 >= before);
                        assert!((1..).zip(&records).all(|(at, record)| record.position.get() == at));
                    }
                    Err(error) => assert!(matches!(error, Error::Unavailable(_)), "{error}"),
                }
            }
        });
        for number in 1..=200 {
            log.append(vec![samples::issue(number, &"n".repeat(900))]).unwrap();
            acknowledged.store(number, Ordering::SeqCst);
            if number % 7 == 0 {
                assert_eq!(log.recover().unwrap().get(), number);
            }
        }
        is_over.store(true, Ordering::SeqCst);
    });
}

fn open(disk: &Disk) -> RedbLog {
    let (backend, journal) = (disk.clone(), disk.journal());
    let backend = move || backend.clone();
    RedbLog::open_with_backend("events.redb", backend, journal, OPTIONS, samples::vault(), &mut rng(1))
        .unwrap()
}

/// A log with frames in both regions, whose running checkpoint is held after `operations` operations on the
/// database, and the number of its records; `None` when the checkpoint takes fewer operations.
fn checkpointing(operations: u64) -> Option<(Disk, RedbLog, u64)> {
    let disk = Disk::default();
    let mut log = open(&disk);
    let mut number = 0;
    let mut append = |log: &mut RedbLog| {
        number += 1;
        log.append(vec![samples::issue(number, &"n".repeat(900))]).unwrap();
        number
    };
    // The first commit begins the journal.
    append(&mut log);
    disk.set_faults(Faults { hold_database_after: Some(operations), ..Faults::default() });
    // More than one region holds, less than both do.
    let mut records = 0;
    for _ in 0..24 {
        records = append(&mut log);
    }
    let since = Instant::now();
    if disk.wait_until_held(|| since.elapsed() > Duration::from_secs(5)) {
        return Some((disk, log, records));
    }
    disk.set_faults(Faults::default());
    None
}

/// Moments of a checkpoint: before its first operation on the database, and every `step` operations later.
fn moments(step: usize) -> impl Iterator<Item = (Disk, RedbLog, u64)> {
    (0..).step_by(step).map_while(checkpointing)
}

#[test]
fn nothing_is_lost_at_any_moment_of_a_checkpoint() {
    let mut moments_seen = 0;
    for (disk, log, records) in moments(1) {
        let reader = log.reader();
        assert_eq!(reader.read(Position::START, usize::MAX).unwrap().len() as u64, records);
        for seed in 0..4 {
            let after = if seed == 0 { disk.after_kill() } else { disk.after_power_loss(&mut rng(seed)) };
            let opened = open(&after);
            let reader = opened.redb_reader();
            assert_eq!(reader.read(Position::START, usize::MAX).unwrap().len() as u64, records);
            let report = reader.verify(|_, _| {}).unwrap();
            assert_eq!((report.finding, report.head.get()), (None, records), "moment {moments_seen}");
        }
        disk.set_faults(Faults::default());
        drop(log);
        let report = open(&disk).redb_reader().verify(|_, _| {}).unwrap();
        assert_eq!((report.finding, report.head.get()), (None, records));
        moments_seen += 1;
    }
    assert!(moments_seen >= 15, "only {moments_seen} moments");
}

#[test]
fn a_failed_background_checkpoint_is_recovered_from() {
    for (disk, mut log, records) in moments(4) {
        disk.set_faults(Faults { fail_sync: true, ..Faults::default() });
        let deadline = Instant::now() + Duration::from_secs(30);
        while disk.is_to_fail() {
            assert!(Instant::now() < deadline, "nothing was synced");
            thread::yield_now();
        }
        // The first group that meets the failure is not appended and returns an error.
        let mut next = records;
        let error = loop {
            match log.append(vec![samples::issue(next + 1, "after")]) {
                Ok(_) => next += 1,
                Err(error) => break error,
            }
            assert!(Instant::now() < deadline, "no append failed");
        };
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
        assert!(!error.to_string().contains("unavailable: the event log is unavailable"), "{error}");
        assert!(matches!(log.checkpoint_journal(), Ok(())), "a checkpoint before recovery does nothing");
        assert_eq!(log.recover().unwrap().get(), next);
        log.append(vec![samples::issue(next + 1, "after")]).unwrap();
        log.checkpoint_journal().unwrap();
        let report = log.redb_reader().verify(|_, _| {}).unwrap();
        assert_eq!((report.finding, report.head.get()), (None, next + 1));
    }
}
