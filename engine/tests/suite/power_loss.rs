//! Loss of power at any moment, also while recovering from an earlier loss or kill: nothing acknowledged is
//! lost.

use std::collections::BTreeMap;

use keyledger_engine::domain::record::Record;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::log::redb::{RedbLog, RedbOptions};
use keyledger_engine::log::{AppendOutcome, Error, EventLog, LogReader, StreamHead};
use keyledger_engine::value::position::Position;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::disk::{Disk, Faults, Images, rng};
use crate::samples;

/// Runs this seed only.
const SEED: &str = "KEYLEDGER_SEED";
const SEEDS: u64 = 500;
/// A journal that is full after a few groups.
const OPTIONS: RedbOptions = RedbOptions { cache_bytes: 1 << 20, journal_bytes: 48 * 1024 };

fn open(disk: &Disk, rng: &mut StdRng) -> Result<RedbLog, Error> {
    let (disk, journal) = (disk.clone(), disk.journal());
    RedbLog::open_with_backend("events.redb", move || disk.clone(), journal, OPTIONS, samples::vault(), rng)
}

/// An empty log, just created.
fn empty_log() -> Images {
    let disk = Disk::default();
    drop(open(&disk, &mut rng(0)).unwrap());
    disk.images()
}

/// Appends groups, with idle checkpoints in between, as the ledger does, until the power fails or the work is
/// done. Adds the acknowledged records to `acknowledged`.
fn work(
    log: &mut RedbLog,
    disk: &Disk,
    rng: &mut StdRng,
    next_key: &mut u64,
    acknowledged: &mut Vec<Record>,
) -> Result<(), String> {
    let failed = |error: Error| if disk.has_crashed() { Ok(()) } else { Err(error.to_string()) };
    let mut heads: BTreeMap<StreamId, StreamHead> = BTreeMap::new();
    for _ in 0..rng.random_range(1..12) {
        let group = (0..rng.random_range(1..20))
            .map(|_| {
                *next_key += 1;
                let known = heads.iter().nth(rng.random_range(0..20));
                if let Some((stream, head)) = known {
                    samples::rename(stream.clone(), *head, *next_key)
                } else {
                    samples::issue(*next_key, &"n".repeat(rng.random_range(1..900)))
                }
            })
            .collect();
        match log.append(group) {
            Ok(outcomes) => {
                for outcome in outcomes {
                    if let AppendOutcome::Appended { records, head } = outcome {
                        heads.insert(records[0].stream.clone(), head);
                        acknowledged.extend(records);
                    }
                }
            }
            Err(error) => return failed(error),
        }
        if rng.random_range(0..6) == 0
            && let Err(error) = log.checkpoint_journal()
        {
            return failed(error);
        }
    }
    Ok(())
}

/// Checks that every acknowledged record is there unchanged, that positions are dense, and that the log
/// verifies.
fn check(log: &mut RedbLog, acknowledged: &[Record]) -> Result<(), String> {
    let reader = log.redb_reader();
    let records = reader.read(Position::START, usize::MAX).map_err(|error| error.to_string())?;
    log.checkpoint_journal().map_err(|error| error.to_string())?;
    for expected in acknowledged {
        let index = usize::try_from(expected.position.get()).unwrap() - 1;
        if records.get(index) != Some(expected) {
            return Err(format!("the acknowledged record at position {} is gone", expected.position));
        }
    }
    let report = reader.verify(|_, _| {}).map_err(|error| error.to_string())?;
    match report.finding {
        Some(finding) => Err(format!("position {}: {}", finding.position, finding.reason)),
        None if report.head.get() != records.len() as u64 => {
            Err("the head is not the position of the last record".into())
        }
        None => Ok(()),
    }
}

/// Several lives of one log, with a loss of power after each.
fn live(seed: u64, empty: &Images, ignores_sync: bool) -> Result<(), String> {
    let mut rng = rng(seed);
    let mut disk = Disk::of(empty.clone());
    let mut acknowledged: Vec<Record> = Vec::new();
    let mut next_key = 0;
    for _ in 0..3 {
        disk.set_faults(Faults { ignores_sync, ..Faults::default() });
        let mut log = open(&disk, &mut rng).map_err(|error| error.to_string())?;
        check(&mut log, &acknowledged)?;
        let crash_after = Some(rng.random_range(1..160));
        disk.set_faults(Faults { crash_after, ignores_sync, ..Faults::default() });
        work(&mut log, &disk, &mut rng, &mut next_key, &mut acknowledged)?;
        // The disk is copied before the log is dropped: closing it is not part of losing power.
        let is_killed = rng.random_range(0..3) == 0;
        let mut after = if is_killed { disk.after_kill() } else { disk.after_power_loss(&mut rng) };
        drop(log);
        for _ in 0..rng.random_range(0..3) {
            let crash_after = Some(rng.random_range(0..12));
            after.set_faults(Faults { crash_after, ignores_sync, ..Faults::default() });
            let recovering = open(&after, &mut rng);
            let again = after.after_power_loss(&mut rng);
            drop(recovering);
            after = again;
        }
        disk = after;
    }
    let mut log = open(&disk, &mut rng).map_err(|error| error.to_string())?;
    check(&mut log, &acknowledged)?;
    work(&mut log, &disk, &mut rng, &mut next_key, &mut acknowledged)?;
    check(&mut log, &acknowledged)
}

fn seeds() -> std::ops::Range<u64> {
    match std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    }
}

#[test]
fn nothing_acknowledged_is_lost() {
    let empty = empty_log();
    for seed in seeds() {
        if let Err(reason) = live(seed, &empty, false) {
            panic!(
                "seed {seed}: {reason}; run it alone and repeatedly, as the checkpoint thread takes part: \
                 {SEED}={seed} cargo test -p keyledger-engine --test suite power_loss"
            );
        }
    }
}

/// The same on a disk that ignores syncs. If nothing were lost there, the test above would prove nothing.
#[test]
fn a_disk_that_does_not_sync_loses_records() {
    let empty = empty_log();
    let found = (0..50).filter(|seed| live(*seed, &empty, true).is_err()).count();
    assert!(found >= 40, "only {found} of 50 seeds lost something");
}
