//! After an idle checkpoint, the database alone is the whole log. A busy log opens at once after a crash.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keyledger_engine::domain::organization::{OrganizationCommand, OrganizationKind};
use keyledger_engine::ledger::{Command, Error, Ledger, Request, Writer};
use keyledger_engine::log::EventLog;
use keyledger_engine::log::redb::{RedbLog, RedbOptions};
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::text::Name;
use keyledger_engine::value::time::SystemClock;
use rand::SeedableRng;
use rand::rngs::StdRng;
use redb::{ReadableDatabase, TableDefinition};

use crate::disk::{Disk, Faults, rng};
use crate::samples;

fn log_on(disk: &Disk) -> RedbLog {
    let options = RedbOptions { journal_bytes: 48 * 1024, ..RedbOptions::default() };
    let (disk, journal) = (disk.clone(), disk.journal());
    let open = move || disk.clone();
    RedbLog::open_with_backend("events.redb", open, journal, options, samples::vault(), &mut rng(1)).unwrap()
}

fn ledger_on(disk: &Disk) -> (Ledger, Writer) {
    let log = Box::new(log_on(disk));
    Ledger::start(log, Vec::new(), Arc::new(SystemClock), StdRng::seed_from_u64(1)).unwrap()
}

/// Number of records in the database without its journal; `None` while the database notes that frames count.
fn in_the_database_alone(disk: &Disk) -> Option<u64> {
    let [database, journal] = disk.images();
    let (alone, options) = (Disk::of([database, journal[..0].to_vec()]), RedbOptions::default());
    let is_whole = {
        let database = redb::Builder::new().create_with_backend(alone.clone()).unwrap();
        let table = TableDefinition::<&str, &[u8]>::new("meta");
        let transaction = database.begin_read().unwrap();
        let meta = transaction.open_table(table).unwrap();
        meta.get("journal").unwrap().is_none()
    };
    let (open, journal) = (move || alone.clone(), Disk::default().journal());
    let log =
        RedbLog::open_with_backend("events.redb", open, journal, options, samples::vault(), &mut rng(1));
    is_whole.then(|| log.unwrap().reader().head().unwrap().get())
}

/// Whether the current files need a repair before they can be used.
fn needs_repair(disk: &Disk) -> bool {
    let repaired = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&repaired);
    let mut builder = redb::Builder::new();
    builder.set_repair_callback(move |_| seen.store(true, Ordering::SeqCst));
    drop(builder.create_with_backend(Disk::of(disk.images())).unwrap());
    repaired.load(Ordering::SeqCst)
}

#[test]
fn a_checkpointed_log_needs_no_journal() {
    let disk = Disk::default();
    let mut log = log_on(&disk);
    for number in 0..3 {
        for part in 0..2 {
            log.append(vec![samples::issue(number * 2 + part, "busy")]).unwrap();
            assert_eq!(in_the_database_alone(&disk), None);
        }
        log.checkpoint_journal().unwrap();
        assert_eq!(in_the_database_alone(&disk), Some(number * 2 + 2));
        let images = disk.images();
        log.checkpoint_journal().unwrap();
        assert!(disk.images() == images, "the second checkpoint has nothing to do");
    }
    log.checkpoint_journal().unwrap();
    let report = log.redb_reader().verify(|_, _| {}).unwrap();
    assert_eq!((report.finding, report.head.get()), (None, 6));
}

#[test]
fn a_killed_log_opens_without_repair() {
    let disk = Disk::default();
    let mut log = log_on(&disk);
    for number in 0..200 {
        log.append(vec![samples::issue(number, &"n".repeat(900))]).unwrap();
        assert!(!needs_repair(&disk), "after {number}");
    }
}

#[test]
fn a_failed_checkpoint_is_recovered_from() {
    let disk = Disk::default();
    let mut log = log_on(&disk);
    log.append(vec![samples::issue(1, "one")]).unwrap();
    disk.set_faults(Faults { fail_sync: true, ..Faults::default() });
    log.checkpoint_journal().unwrap_err();
    log.append(vec![samples::issue(2, "two")]).unwrap_err();
    disk.set_faults(Faults::default());
    assert_eq!(log.recover().unwrap().get(), 1);
    log.append(vec![samples::issue(2, "two")]).unwrap();
    log.checkpoint_journal().unwrap();
    let report = log.redb_reader().verify(|_, _| {}).unwrap();
    assert_eq!((report.finding, report.head.get()), (None, 2));
}

#[test]
fn a_log_survives_a_full_disk() {
    let disk = Disk::default();
    let mut log = log_on(&disk);
    let mut appended = 0;
    disk.set_faults(Faults { full: true, ..Faults::default() });
    for number in 0..1_000 {
        if log.append(vec![samples::issue(number, &"n".repeat(500))]).is_err() {
            break;
        }
        appended += 1;
    }
    appended = appended.max(log.recover().unwrap().get());
    for _ in 0..3 {
        if log.checkpoint_journal().is_err() {
            assert_eq!(log.recover().unwrap().get(), appended);
        }
    }
    disk.set_faults(Faults::default());
    log.append(vec![samples::issue(2_000, "space again")]).unwrap();
    log.checkpoint_journal().unwrap();
    let report = log.redb_reader().verify(|_, _| {}).unwrap();
    assert_eq!((report.finding, report.head.get()), (None, appended + 1));
}

#[test]
fn the_ledger_checkpoints_its_log() {
    let disk = Disk::default();
    let (ledger, writer) = ledger_on(&disk);
    let create = |id: &str| {
        let command = OrganizationCommand::Create { name: None, kind: OrganizationKind::Paid };
        let command = Command::Organization(id.parse().unwrap(), command);
        ledger.execute_blocking(Request::new(command, Actor::system())).unwrap()
    };
    create("one");
    assert_eq!(in_the_database_alone(&disk), None);
    assert!(ledger.checkpoint_if_idle());
    let deadline = Instant::now() + Duration::from_secs(10);
    while in_the_database_alone(&disk).is_none() {
        assert!(Instant::now() < deadline, "no checkpoint was made");
        std::thread::yield_now();
    }
    // A disk failure at that moment costs nothing.
    create("two");
    disk.set_faults(Faults { fail_sync: true, ..Faults::default() });
    assert!(ledger.checkpoint_if_idle());
    while disk.is_to_fail() {
        assert!(Instant::now() < deadline, "no checkpoint was made");
        std::thread::yield_now();
    }
    assert_eq!(create("three").position.get(), 3);
    // A blocking call returns the outcome.
    ledger.checkpoint_blocking().unwrap();
    assert_eq!(in_the_database_alone(&disk), Some(3));
    create("four");
    disk.set_faults(Faults { fail_sync: true, ..Faults::default() });
    let error = ledger.checkpoint_blocking().unwrap_err();
    assert!(matches!(error, Error::Log(_)), "{error}");
    ledger.checkpoint_blocking().unwrap();
    assert_eq!(in_the_database_alone(&disk), Some(4));
    writer.stop().unwrap();
    assert!(matches!(ledger.checkpoint_blocking(), Err(Error::Stopped)));
}

/// Commands that wait for each other leave some in the queue with every group, so the ledger is never idle.
#[test]
fn a_requested_checkpoint_is_made_however_busy_the_ledger_is() {
    let disk = Disk::default();
    let (ledger, writer) = ledger_on(&disk);
    let id: OrganizationId = "busy".parse().unwrap();
    let execute = |command| {
        let command = Command::Organization(id.clone(), command);
        ledger.execute_blocking(Request::new(command, Actor::system())).unwrap()
    };
    execute(OrganizationCommand::Create { name: None, kind: OrganizationKind::Paid });
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0.. {
                    let name = Name::new(&format!("{number}")).unwrap();
                    execute(OrganizationCommand::Edit { name: Some(Some(name)), kind: None });
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                }
            });
        }
        for _ in 0..20 {
            ledger.checkpoint_blocking().unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
    });
    writer.stop().unwrap();
}
