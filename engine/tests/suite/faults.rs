//! Disk failures: the errors that the log returns, and that it works after recovery.

use keyledger_engine::log::redb::{RedbLog, RedbOptions};
use keyledger_engine::log::{AppendOutcome, CommandId, Error, EventLog};
use keyledger_engine::value::position::Position;

use crate::disk::{Disk, Faults, rng};
use crate::samples;

fn log_on(disk: &Disk) -> RedbLog {
    let (disk, journal) = (disk.clone(), disk.journal());
    RedbLog::open_with_backend(
        "events.redb",
        move || disk.clone(),
        journal,
        RedbOptions::default(),
        samples::vault(),
        &mut rng(1),
    )
    .unwrap()
}

fn assert_sound(log: &mut RedbLog, records: u64) {
    log.checkpoint_journal().unwrap();
    let report = log.redb_reader().verify(|_, _| {}).unwrap();
    assert_eq!((report.finding, report.head), (None, Position::new(records)));
}

#[test]
fn a_failed_sync_leaves_the_outcome_unknown_until_recovery() {
    let disk = Disk::default();
    let mut log = log_on(&disk);
    let reader = log.reader();
    log.append(vec![samples::issue(1, "one")]).unwrap();
    disk.set_faults(Faults { fail_sync: true, ..Faults::default() });
    let error = log.append(vec![samples::issue(2, "two")]).unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
    let error = log.append(vec![samples::issue(3, "three")]).unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error}");

    let head = log.recover().unwrap();
    assert_eq!(reader.head().unwrap(), head);
    // The repeated command is appended if it was not before, and replayed if it was.
    let outcomes = log.append(vec![samples::issue(2, "two"), samples::issue(3, "three")]).unwrap();
    match head.get() {
        1 => assert!(matches!(&outcomes[0], AppendOutcome::Appended { .. })),
        2 => assert!(matches!(&outcomes[0], AppendOutcome::Replayed(_))),
        other => panic!("the head is {other}"),
    }
    assert!(matches!(&outcomes[1], AppendOutcome::Appended { .. }));
    assert!(reader.find_command(&CommandId(samples::issue(3, "three").command.unwrap().id.0)).is_some());
    assert_sound(&mut log, 3);
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let disk = Disk::default();
    let mut log = log_on(&disk);
    let mut appended = 0;
    for round in 0..20 {
        let group =
            |first: u64| (first..first + 50).map(|number| samples::issue(number, "x")).collect::<Vec<_>>();
        disk.set_faults(Faults { full: round % 2 == 1, ..Faults::default() });
        match log.append(group(round * 50)) {
            Ok(_) => appended += 50,
            Err(Error::OutcomeUnknown(_) | Error::Unavailable(_)) => {
                disk.set_faults(Faults::default());
                let head = log.recover().unwrap().get();
                assert!(head == appended || head == appended + 50, "{head} after {appended}");
                appended = head;
            }
            Err(error) => panic!("{error}"),
        }
        assert_sound(&mut log, appended);
    }
    assert!(appended >= 500);
}

#[test]
fn recovery_that_fails_can_be_tried_again() {
    let disk = Disk::default();
    let mut log = log_on(&disk);
    let reader = log.reader();
    log.append(vec![samples::issue(1, "one")]).unwrap();
    disk.set_faults(Faults { fail_sync: true, ..Faults::default() });
    assert!(log.append(vec![samples::issue(2, "two")]).is_err());
    disk.set_faults(Faults { fail_sync: true, full: true, ..Faults::default() });
    if log.recover().is_err() {
        assert!(matches!(reader.head(), Err(Error::Unavailable(_))));
        assert!(matches!(log.append(vec![samples::issue(3, "three")]), Err(Error::Unavailable(_))));
    }
    disk.set_faults(Faults::default());
    let head = log.recover().unwrap();
    assert_eq!(reader.head().unwrap(), head);
    log.append(vec![samples::issue(3, "three")]).unwrap();
    assert_sound(&mut log, head.get() + 1);
}
