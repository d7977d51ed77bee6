//! A log that may rest is whole without its journal; one that was busy is open at once after a crash all the same.

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

/// How many records the database has without its journal; none when it says that it has not all of them.
fn in_the_database_alone(disk: &Disk) -> Option<u64> {
    let [database, journal] = disk.images();
    let (alone, options) = (Disk::of([database, journal[..0].to_vec()]), RedbOptions::default());
    let at_rest = {
        let database = redb::Builder::new().create_with_backend(alone.clone()).unwrap();
        let table = TableDefinition::<&str, &[u8]>::new("meta");
        let transaction = database.begin_read().unwrap();
        let meta = transaction.open_table(table).unwrap();
        meta.get("journal").unwrap().is_none()
    };
    let (open, journal) = (move || alone.clone(), Disk::default().journal());
    let log =
        RedbLog::open_with_backend("events.redb", open, journal, options, samples::vault(), &mut rng(1));
    at_rest.then(|| log.unwrap().reader().head().unwrap().get())
}

/// Whether what stands on the disk now has to be gone through before it can be used.
fn needs_repair(disk: &Disk) -> bool {
    let repaired = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&repaired);
    let mut builder = redb::Builder::new();
    builder.set_repair_callback(move |_| seen.store(true, Ordering::SeqCst));
    drop(builder.create_with_backend(Disk::of(disk.images())).unwrap());
    repaired.load(Ordering::SeqCst)
}

#[test]
fn a_log_at_rest_needs_no_journal() {
    let disk = Disk::default();
    let mut log = log_on(&disk);
    for number in 0..3 {
        for part in 0..2 {
            log.append(vec![samples::issue(number * 2 + part, "busy")]).unwrap();
            assert_eq!(in_the_database_alone(&disk), None);
        }
        log.rest().unwrap();
        assert_eq!(in_the_database_alone(&disk), Some(number * 2 + 2));
        let images = disk.images();
        log.rest().unwrap();
        assert!(disk.images() == images, "there is nothing more to do");
    }
    log.rest().unwrap();
    let report = log.redb_reader().verify(|_, _| {}).unwrap();
    assert_eq!((report.finding, report.head.get()), (None, 6));
}

#[test]
fn a_log_that_was_cut_off_is_open_at_once() {
    let disk = Disk::default();
    let mut log = log_on(&disk);
    for number in 0..200 {
        log.append(vec![samples::issue(number, &"n".repeat(900))]).unwrap();
        assert!(!needs_repair(&disk), "after {number}");
    }
}

#[test]
fn a_failed_rest_is_recovered_from() {
    let disk = Disk::default();
    let mut log = log_on(&disk);
    log.append(vec![samples::issue(1, "one")]).unwrap();
    disk.set_faults(Faults { fail_sync: true, ..Faults::default() });
    log.rest().unwrap_err();
    log.append(vec![samples::issue(2, "two")]).unwrap_err();
    disk.set_faults(Faults::default());
    assert_eq!(log.recover().unwrap().get(), 1);
    log.append(vec![samples::issue(2, "two")]).unwrap();
    log.rest().unwrap();
    let report = log.redb_reader().verify(|_, _| {}).unwrap();
    assert_eq!((report.finding, report.head.get()), (None, 2));
}

#[test]
fn a_full_disk_is_no_reason_to_end() {
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
        if log.rest().is_err() {
            assert_eq!(log.recover().unwrap().get(), appended);
        }
    }
    disk.set_faults(Faults::default());
    log.append(vec![samples::issue(2_000, "space again")]).unwrap();
    log.rest().unwrap();
    let report = log.redb_reader().verify(|_, _| {}).unwrap();
    assert_eq!((report.finding, report.head.get()), (None, appended + 1));
}

#[test]
fn the_ledger_has_its_log_rest() {
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
        assert!(Instant::now() < deadline, "the log was not told");
        std::thread::yield_now();
    }
    // A disk that fails just then costs nothing.
    create("two");
    disk.set_faults(Faults { fail_sync: true, ..Faults::default() });
    assert!(ledger.checkpoint_if_idle());
    while disk.is_to_fail() {
        assert!(Instant::now() < deadline, "the log was not told");
        std::thread::yield_now();
    }
    assert_eq!(create("three").position.get(), 3);
    // Whoever waits for it is told what came of it.
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

/// Commands that wait for each other leave something in the queue with every group.
#[test]
fn a_log_rests_for_whoever_waits_for_it_however_busy_it_is() {
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
