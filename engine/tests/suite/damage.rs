//! Files with a byte changed: every one is either read right or refused with a reason.

use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keyledger_engine::log::redb::{RedbLog, RedbOptions};
use keyledger_engine::log::{Error, EventLog, LogReader};
use keyledger_engine::position::Position;
use keyledger_engine::record::Record;
use rand::RngExt;

use crate::disk::{Disk, rng};
use crate::samples;

/// How the file is found when it is opened and read from beginning to end.
#[derive(Debug)]
enum Found {
    Records(Vec<Record>),
    Refused(String),
}

fn read_all(image: Vec<u8>) -> Found {
    let disk = Disk::of(image);
    let opened = RedbLog::open_with_backend(
        "events.redb",
        move || disk.clone(),
        RedbOptions { cache_bytes: 1 << 20 },
        samples::vault(),
        &mut rng(1),
    );
    let log = match opened {
        Ok(log) => log,
        Err(Error::Open(text)) => {
            assert!(text.starts_with("events.redb: ") && !text.contains('\n'), "{text}");
            return Found::Refused(text);
        }
        Err(error) => panic!("{error}"),
    };
    let reader = log.redb_reader();
    match reader.verify(|_, _| {}) {
        Err(error) => Found::Refused(error.to_string()),
        Ok(report) => match report.finding {
            Some(finding) => {
                assert!(finding.position > Position::START);
                Found::Refused(finding.reason)
            }
            None => match reader.read(Position::START, usize::MAX) {
                Ok(records) => Found::Records(records),
                Err(error) => Found::Refused(error.to_string()),
            },
        },
    }
}

fn small_log() -> (Vec<u8>, Vec<Record>) {
    let disk = Disk::default();
    let handle = disk.clone();
    let mut log = RedbLog::open_with_backend(
        "events.redb",
        move || handle.clone(),
        RedbOptions::default(),
        samples::vault(),
        &mut rng(1),
    )
    .unwrap();
    for group in 0..5 {
        let appends = (0..60).map(|number| samples::issue(group * 60 + number + 1, "a name")).collect();
        log.append(appends).unwrap();
    }
    let records = log.reader().read(Position::START, usize::MAX).unwrap();
    drop(log);
    (disk.image(), records)
}

/// redb's byte of flags in the file's header. One of its bits says which of two commits is the newest; changed, it gives
/// back the log as it was a commit earlier, whole in itself. What catches that is what catches a restored older file: a
/// checkpoint, or a projection that is ahead.
const HEADER_FLAGS: usize = 9;

#[test]
fn no_changed_byte_changes_what_is_read() {
    let (image, records) = small_log();
    match read_all(image.clone()) {
        Found::Records(found) => assert_eq!(found, records),
        Found::Refused(reason) => panic!("undamaged, and refused: {reason}"),
    }
    let mut rng = rng(7);
    let used: Vec<usize> = (0..image.len()).filter(|offset| image[*offset] != 0).collect();
    let header = 0..320;
    let sampled = (0..600).map(|_| used[rng.random_range(0..used.len())]);
    let anywhere = (0..60).map(|step| step * image.len() / 60);
    let offsets: Vec<usize> = header.chain(sampled).chain(anywhere).collect();
    // redb says some of it with a panic, which the log catches; the hook would print each.
    let (hook, here) = (std::panic::take_hook(), std::thread::current().id());
    let quiet = Arc::new(AtomicBool::new(true));
    let asked = quiet.clone();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() != here || !asked.load(Ordering::Relaxed) {
            hook(panic);
        }
    }));
    let mut refused = 0;
    let mut failures = Vec::new();
    for offset in offsets {
        let mask = 1_u8 << rng.random_range(0..8);
        let mut damaged = image.clone();
        damaged[offset] ^= mask;
        match catch_unwind(|| read_all(damaged)) {
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                failures.push(format!("offset {offset}, mask {mask}: a panic escaped: {text}"));
            }
            Ok(Found::Refused(reason)) => {
                refused += 1;
                if reason.is_empty() {
                    failures.push(format!("offset {offset}, mask {mask}: no reason"));
                }
            }
            Ok(Found::Records(found)) if found == records => {}
            Ok(Found::Records(found)) if offset == HEADER_FLAGS && records.starts_with(&found) => {}
            Ok(Found::Records(found)) => {
                failures
                    .push(format!("offset {offset}, mask {mask}: {} records, silently others", found.len()));
            }
        }
    }
    quiet.store(false, Ordering::Relaxed);
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(refused > 300, "only {refused} changes were noticed");
}
