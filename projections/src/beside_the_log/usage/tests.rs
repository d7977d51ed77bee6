//! Usage against a plain model: reports equal what was recorded, whatever is flushed, folded, aged, lost in a
//! crash or refused by the file in between.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyledger_engine::value::id::KeyId;
use keyledger_engine::value::time::Timestamp;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    Address, Counts, DAYS_KEPT, EVERYTHING, Granularity, HOURS_KEPT, HOURS_PER_DAY, Report, Usage,
    UsageThread, hour_of,
};
use crate::verification::Code;

const KEYS: u32 = 5;
const START: i64 = 1_800_000_000_000;
const DAY: i64 = 24 * 60 * 60 * 1_000;

#[derive(Debug, Clone)]
enum Step {
    Verify { key: u32, code: usize, from: u8 },
    Nameless(bool),
    Pass(i64),
    Flush,
    FoldSoon(usize),
    Fail { written: bool },
    Forget(u32),
    Stop,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..KEYS, 0..8_usize, 0..4_u8).prop_map(|(key, code, from)| Step::Verify { key, code, from }),
        2 => any::<bool>().prop_map(Step::Nameless),
        4 => (0..90 * 60_000_i64).prop_map(Step::Pass),
        1 => (0..60 * DAY).prop_map(Step::Pass),
        4 => Just(Step::Flush),
        3 => (1..4_usize).prop_map(Step::FoldSoon),
        1 => any::<bool>().prop_map(|written| Step::Fail { written }),
        1 => (0..KEYS).prop_map(Step::Forget),
        1 => Just(Step::Stop),
        1 => Just(Step::Crash),
    ]
}

fn code_of(number: usize) -> Code {
    let named = |code: &Code| !matches!(code, Code::Malformed | Code::NotFound);
    Code::ALL.into_iter().filter(named).nth(number).unwrap()
}

fn address_of(number: u8) -> Address {
    Address::of(match number {
        0 => None,
        1 => Some(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6))),
        _ => Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, number))),
    })
}

fn key_id(key: u32) -> KeyId {
    KeyId::from_u128(u128::from(key) + 1)
}

/// Verifications by hour, and the last one; the id 0 sums up all.
#[derive(Debug, Clone, Default)]
struct Model(BTreeMap<KeyId, Verifications>);

type Verifications = (BTreeMap<u32, Counts>, Option<(Timestamp, Address)>);

impl Model {
    fn add(&mut self, ids: &[KeyId], code: Code, now: Timestamp, from: Address) {
        for id in ids {
            let (hours, last) = self.0.entry(*id).or_default();
            hours.entry(hour_of(now)).or_default().add(code, 1);
            *last = Some((now, from));
        }
    }

    fn report(&self, id: KeyId, now: Timestamp, granularity: Granularity) -> Report {
        let Some((hours, last)) = self.0.get(&id) else { return Report::default() };
        let mut report = Report { last_at: last.map(|it| it.0), ..Report::default() };
        report.last_from = last.map(|it| it.1).unwrap_or_default();
        let hours_per_part = if granularity == Granularity::Day { HOURS_PER_DAY } else { 1 };
        // Only what is always kept, which is as far as interfaces allow to ask.
        let first = match granularity {
            Granularity::Hour => hour_of(now).saturating_sub(HOURS_KEPT),
            Granularity::Day => {
                hour_of(now).saturating_sub((DAYS_KEPT - 1) * HOURS_PER_DAY) / HOURS_PER_DAY * HOURS_PER_DAY
            }
        };
        for (hour, counts) in hours {
            report.total.merge(counts);
            if *hour >= first {
                let start = i64::from(hour / hours_per_part) * granularity.millis();
                match report.parts.last_mut() {
                    Some((part, sum)) if part.millis() == start => sum.merge(counts),
                    _ => report.parts.push((Timestamp::from_millis(start), *counts)),
                }
            }
        }
        report
    }
}

struct Tested {
    usage: Arc<Usage>,
    thread: UsageThread,
    path: PathBuf,
    now: Timestamp,
    model: Model,
    /// What survives a crash.
    durable: Model,
    living: HashSet<u32>,
}

impl Tested {
    fn open(directory: &Path) -> Self {
        let path = directory.join("usage.redb");
        let now = Timestamp::from_millis(START);
        let (usage, thread) = Usage::open(&path, now, HashSet::new).unwrap();
        let (model, durable) = Default::default();
        Self { usage, thread, path, now, model, durable, living: (0..KEYS).collect() }
    }

    fn reopen(self) -> Self {
        let Self { usage, thread, path, now, durable, living, .. } = self;
        drop((usage, thread));
        let (usage, thread) =
            Usage::open(&path, now, || living.iter().map(|key| key_id(*key)).collect()).unwrap();
        Self { usage, thread, path, now, model: durable.clone(), durable, living }
    }

    fn flush(&mut self) {
        self.thread.flush(self.now);
        assert!(!self.thread.flusher.is_failed());
        self.durable = self.model.clone();
    }

    fn run(mut self, step: &Step) -> Self {
        match *step {
            Step::Verify { key, code, from } => {
                if self.living.contains(&key) {
                    let (code, from) = (code_of(code), address_of(from));
                    // Numbers come from the index and are independent of ids.
                    self.usage.live.record(2_000 - key * 300, key_id(key), code, self.now, from);
                    self.model.add(&[key_id(key), EVERYTHING], code, self.now, from);
                }
            }
            Step::Nameless(malformed) => {
                let code = if malformed { Code::Malformed } else { Code::NotFound };
                self.usage.live.record_nameless(code);
                // A verification without a key has neither time nor address; it gets the time at which it is
                // gathered.
                self.usage.gather(self.now);
                self.model.add(&[EVERYTHING], code, self.now, Address::default());
            }
            Step::Pass(millis) => {
                self.now = self.now.saturating_add_millis(millis);
                // The thread does the same at the turn of the hour.
                self.usage.gather(self.now);
            }
            Step::Flush => self.flush(),
            Step::FoldSoon(keys) => self.thread.flusher.fold_soon(keys),
            Step::Fail { written } => {
                // So that there is something to write.
                self = self.run(&Step::Nameless(written));
                self.thread.flusher.fail_next(written);
                self.thread.flush(self.now);
                assert!(self.thread.flusher.is_failed());
                assert!(self.report(key_id(0), Granularity::Hour).is_err());
                // The next flush opens the file again.
                self.flush();
            }
            Step::Forget(key) => {
                self.living.remove(&key);
                self.usage.forget(key_id(key));
                self.model.0.remove(&key_id(key));
                self.flush();
            }
            Step::Stop | Step::Crash => {
                if matches!(step, Step::Stop) {
                    self.flush();
                }
                self = self.reopen();
                // Removes what the journal still has of deleted keys.
                self.flush();
            }
        }
        self.check();
        self
    }

    fn report(&self, id: KeyId, granularity: Granularity) -> Result<Report, super::Error> {
        let kept = match granularity {
            Granularity::Hour => i64::from(HOURS_KEPT),
            Granularity::Day => i64::from((DAYS_KEPT - 1) * HOURS_PER_DAY),
        };
        let from = Timestamp::from_millis(self.now.millis() - kept * Granularity::Hour.millis());
        let id = (id != EVERYTHING).then_some(id);
        self.usage.report(id, from, self.now.saturating_add_millis(1), granularity, self.now)
    }

    fn check(&self) {
        for id in (0..KEYS).map(key_id).chain([EVERYTHING]) {
            for granularity in [Granularity::Hour, Granularity::Day] {
                let expected = self.model.report(id, self.now, granularity);
                let mut report = self.report(id, granularity).unwrap();
                if id == EVERYTHING {
                    // Of several in one millisecond, any may be the last.
                    report.last_from = expected.last_from;
                }
                assert_eq!(report, expected, "{id} {granularity:?}");
                if id != EVERYTHING {
                    assert_eq!(self.usage.last_verified(id, self.now), expected.last_at, "{id}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_is_what_was_recorded(steps in proptest::collection::vec(step(), 1..120)) {
        let directory = TempDir::new().unwrap();
        let mut tested = Tested::open(directory.path());
        for step in &steps {
            tested = tested.run(step);
        }
    }
}

#[test]
fn a_damaged_file_is_set_aside() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("usage.redb");
    std::fs::write(&path, b"not what redb writes").unwrap();
    let (usage, mut thread) = Usage::open(&path, Timestamp::from_millis(START), HashSet::new).unwrap();
    usage.live.record(0, key_id(0), Code::Valid, Timestamp::from_millis(START), Address::default());
    thread.flush(Timestamp::from_millis(START));
    assert!(directory.path().join("usage.redb.damaged").exists());
    drop((usage, thread));
    let (usage, _thread) =
        Usage::open(&path, Timestamp::from_millis(START), || HashSet::from([key_id(0)])).unwrap();
    assert!(usage.last_verified(key_id(0), Timestamp::from_millis(START)).is_some());
}

#[test]
fn a_file_in_use_is_refused_by_name() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("usage.redb");
    let _open = Usage::open(&path, Timestamp::from_millis(START), HashSet::new).unwrap();
    let refused = Usage::open(&path, Timestamp::from_millis(START), HashSet::new).err().unwrap();
    assert!(refused.to_string().contains("usage.redb: in use"), "{refused}");
}

#[test]
fn a_key_that_a_restart_does_not_find_loses_its_usage() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("usage.redb");
    let now = Timestamp::from_millis(START);
    let (usage, mut thread) = Usage::open(&path, now, HashSet::new).unwrap();
    for key in 0..3 {
        usage.live.record(key, key_id(key), Code::Valid, now, Address::default());
    }
    thread.flush(now);
    drop((usage, thread));
    let (usage, mut thread) = Usage::open(&path, now, || HashSet::from([key_id(1)])).unwrap();
    thread.flush(now);
    let known: Vec<bool> = (0..3).map(|key| usage.last_verified(key_id(key), now).is_some()).collect();
    assert_eq!(known, [false, true, false]);
}
