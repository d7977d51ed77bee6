//! Files with one changed byte: each is either read correctly or refused with a reason.

use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keyledger_engine::domain::record::Record;
use keyledger_engine::log::redb::{RedbLog, RedbOptions};
use keyledger_engine::log::{Error, EventLog, LogReader};
use keyledger_engine::value::position::Position;
use rand::RngExt;

use crate::disk::{Disk, Images, rng};
use crate::samples;

/// Result of opening a log and reading it from beginning to end.
#[derive(Debug)]
enum Found {
    Records(Vec<Record>),
    Refused(String),
}

fn read_all(images: Images) -> Found {
    let disk = Disk::of(images);
    let journal = disk.journal();
    let opened = RedbLog::open_with_backend(
        "events.redb",
        move || disk.clone(),
        journal,
        RedbOptions { cache_bytes: 1 << 20, ..RedbOptions::default() },
        samples::vault(),
        &mut rng(1),
    );
    let log = match opened {
        Ok(log) => log,
        Err(Error::Open(text) | Error::DamagedFile(text)) => {
            let named = text.starts_with("events.redb: ") || text.starts_with("events.journal: ");
            assert!(named && !text.contains('\n'), "{text}");
            return Found::Refused(text);
        }
        // Opening reads the erasures, and may find damage on the way to one.
        Err(Error::Damaged { file, reason, .. }) => {
            assert!(file == "events.redb" && !reason.contains('\n'), "{file}: {reason}");
            return Found::Refused(reason);
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

/// Number of events in a group.
const GROUP: u64 = 60;

/// A closed log, the same log as a killed process leaves it, with all but its first group in the journal, and
/// its records.
fn small_log() -> (Images, Images, Vec<Record>) {
    let disk = Disk::default();
    let handle = disk.clone();
    let mut log = RedbLog::open_with_backend(
        "events.redb",
        move || handle.clone(),
        disk.journal(),
        RedbOptions::default(),
        samples::vault(),
        &mut rng(1),
    )
    .unwrap();
    for group in 0..5 {
        let appends = (0..GROUP).map(|number| samples::issue(group * GROUP + number + 1, "a name")).collect();
        log.append(appends).unwrap();
    }
    let records = log.reader().read(Position::START, usize::MAX).unwrap();
    let left = disk.images();
    drop(log);
    (disk.images(), left, records)
}

/// redb's byte of flags in the file's header. One of its bits says which of two commits is the newest. When
/// it is changed, the file is the intact log of one commit earlier. It is detected in the same way as a
/// restored older file: by a checkpoint, or by a projection that is ahead.
const HEADER_FLAGS: usize = 9;

/// Runs `look` without printing the panics by which redb reports damage; the log catches them.
fn quietly<T>(look: impl FnOnce() -> T) -> T {
    let (hook, here) = (std::panic::take_hook(), std::thread::current().id());
    let quiet = Arc::new(AtomicBool::new(true));
    let asked = quiet.clone();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() != here || !asked.load(Ordering::Relaxed) {
            hook(panic);
        }
    }));
    let seen = look();
    quiet.store(false, Ordering::Relaxed);
    seen
}

/// Changes one bit at each offset of a file. Returns the changes that had a forbidden effect, and the number
/// of changes that were refused. `may_lack(offset, found)` says whether reading only the first `found`
/// records is correct as well.
fn change_each(
    images: &Images,
    file: usize,
    records: &[Record],
    offsets: impl Iterator<Item = usize>,
    may_lack: impl Fn(usize, usize) -> bool,
) -> (Vec<String>, u32) {
    let mut rng = rng(7);
    let (mut failures, mut refused) = (Vec::new(), 0);
    for offset in offsets {
        let mask = 1_u8 << rng.random_range(0..8);
        let mut damaged = images.clone();
        damaged[file][offset] ^= mask;
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
            Ok(Found::Records(found)) if records.starts_with(&found) && may_lack(offset, found.len()) => {}
            Ok(Found::Records(found)) => {
                failures.push(format!(
                    "offset {offset}, mask {mask}: {} other records, without an error",
                    found.len()
                ));
            }
        }
    }
    (failures, refused)
}

fn assert_undamaged(images: &Images, records: &[Record]) {
    match read_all(images.clone()) {
        Found::Records(found) => assert_eq!(found, records),
        Found::Refused(reason) => panic!("an undamaged log was refused: {reason}"),
    }
}

#[test]
fn no_changed_byte_changes_what_is_read() {
    let (images, _, records) = small_log();
    assert_undamaged(&images, &records);
    let [image, _] = &images;
    let mut rng = rng(8);
    let used: Vec<usize> = (0..image.len()).filter(|offset| image[*offset] != 0).collect();
    let header = 0..320;
    let sampled = (0..600).map(|_| used[rng.random_range(0..used.len())]);
    let anywhere = (0..60).map(|step| step * image.len() / 60);
    let offsets = header.chain(sampled).chain(anywhere);
    let (failures, refused) =
        quietly(|| change_each(&images, 0, &records, offsets, |offset, _| offset == HEADER_FLAGS));
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(refused > 300, "only {refused} changes were refused");
}

#[test]
fn no_changed_byte_of_the_journal_changes_what_is_read() {
    let (_, images, records) = small_log();
    assert_undamaged(&images, &records);
    let [_, journal] = &images;
    let end = journal.iter().rposition(|byte| *byte != 0).unwrap();
    // An incomplete last group looks like one that a loss of power cut off before it was acknowledged.
    let group = usize::try_from(GROUP).unwrap();
    let is_last = |offset, found| offset >= end * 3 / 4 - 200 && found == records.len() - group;
    let offsets = (0..end + 1).step_by(end / 400);
    let (failures, refused) = quietly(|| change_each(&images, 1, &records, offsets, is_last));
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(refused >= 290, "only {refused} changes were refused");
}
