//! Usage: how often each key was verified, with which outcome, and when and from where last.
//!
//! This is no projection. The log does not hold verifications, so a replay cannot bring usage back; it has a file of its
//! own in the data directory.
//!
//! A verification adds to counters in memory ([`Usage::record`]), which costs some nanoseconds and never waits. A thread
//! gathers them and makes them durable every half second, so **a crash loses what was verified in the last second, at
//! most**, and a graceful stop loses nothing. Whoever reads usage sees every verification that was answered before.
//!
//! A verification counts in the hour of the key's last one when counters are gathered, which also happens at the turn of
//! the hour: one that comes within moments of the turn may be counted in the hour beside it.
//!
//! Hours are kept for [`HOURS_KEPT`]; older ones are kept as days, for [`DAYS_KEPT`]. Totals and the last verification stay
//! as long as the key. All of it goes when the key is deleted, some time after.

mod address;
mod counts;
mod file;
mod flusher;
mod journal;
mod live;
mod observer;
mod pending;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use keyledger_engine::storage::redb_file::Failure;
use keyledger_engine::value::id::KeyId;
use keyledger_engine::value::time::Timestamp;

use crate::verification::{Code, Verdict};
use file::{Rows, UsageFile};
use live::LiveCounters;
use pending::{Gathered, KeyMap, Pending, PendingKeys, add_all};

pub use address::Address;
pub use counts::Counts;
pub use flusher::{RunningUsageThread, UsageThread};
pub use observer::UsageObserver;

/// How many hours are kept one by one: those of 90 days.
pub const HOURS_KEPT: u32 = 90 * HOURS_PER_DAY;
/// How many days are kept one by one: those of two years.
pub const DAYS_KEPT: u32 = 731;
const HOURS_PER_DAY: u32 = 24;
const MILLIS_PER_HOUR: i64 = 60 * 60 * 1_000;
/// Stands in the file for all verifications together, also those that named no key. No key has this id.
const EVERYTHING: KeyId = KeyId::from_u128(0);

/// What goes wrong with the file of usage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has the file open.
    #[error("{file}: in use by another process; stop that process first")]
    InUse {
        /// The file.
        file: String,
    },
    /// The file cannot be read or written.
    #[error("{file}: {reason}")]
    Unavailable {
        /// The file.
        file: String,
        /// What the storage says.
        reason: String,
    },
    /// The file has failed and is being opened again.
    #[error("the file of usage does not work; the service's log says why")]
    Failed,
    /// The file's contents are not what was written.
    #[error("{file}: damaged: {reason}; start again, and counting starts anew")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    fn of(path: &Path, failure: impl Into<Failure>) -> Self {
        let (file, failure) = (path.display().to_string(), failure.into());
        let reason = failure.reason();
        match failure {
            Failure::InUse => Self::InUse { file },
            failure if failure.is_damage() => Self::Damaged { file, reason },
            _ => Self::Unavailable { file, reason },
        }
    }
}

/// A key's last verification; the time 0 when there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Last {
    at: Timestamp,
    from: Address,
}

impl Last {
    fn advance(&mut self, other: Self) {
        if other.at >= self.at {
            *self = other;
        }
    }
}

/// How long the parts of a report are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// Hours of UTC.
    Hour,
    /// Days of UTC.
    Day,
}

impl Granularity {
    /// Milliseconds of one part.
    #[must_use]
    pub const fn millis(self) -> i64 {
        match self {
            Self::Hour => MILLIS_PER_HOUR,
            Self::Day => MILLIS_PER_HOUR * HOURS_PER_DAY as i64,
        }
    }
}

/// What is known of one key's usage, or of all together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Counts of all time.
    pub total: Counts,
    /// When it was last verified, with whatever outcome.
    pub last_at: Option<Timestamp>,
    /// From where.
    pub last_from: Address,
    /// The parts of the time asked for in which there was something, oldest first, by their beginnings.
    pub parts: Vec<(Timestamp, Counts)>,
}

/// See the [module](self). All methods take `&self`; share it as an `Arc`.
pub struct Usage {
    live: LiveCounters,
    state: Mutex<State>,
    /// The last verification of every key that ever was verified; apart from the state, as lists look at all of it.
    last: RwLock<KeyMap<Timestamp>>,
    /// Keys that were deleted since the last flush.
    forgotten: Mutex<Vec<KeyId>>,
}

struct State {
    /// What is in no key's rows yet, nor on its way there; `fresh` is part of it.
    pending: PendingKeys,
    /// What is in no journal entry yet.
    fresh: Vec<Gathered>,
    /// What is being folded into rows by a flush under way.
    folding: Arc<[(KeyId, Pending)]>,
    /// None while the file does not work.
    rows: Option<Arc<Rows>>,
    gathered_at: Timestamp,
}

impl Usage {
    /// Opens the file of usage, or makes it, and says what thread is to keep it. Usage of keys that are not in `living`,
    /// asked for once, is removed by and by.
    ///
    /// # Errors
    /// When the file is in use or cannot be read or written. A damaged one is set aside, with an error in the log.
    pub fn open(
        path: &Path,
        now: Timestamp,
        living: impl FnOnce() -> HashSet<KeyId>,
    ) -> Result<(Arc<Self>, UsageThread), Error> {
        let opened = UsageFile::open(path)?;
        let mut forgotten = Vec::new();
        if !opened.last.is_empty() {
            let living = living();
            let is_gone = |id: &&KeyId| **id != EVERYTHING && !living.contains(*id);
            forgotten.extend(opened.last.keys().filter(is_gone).copied());
        }
        let usage = Arc::new(Self {
            live: LiveCounters::new(),
            state: Mutex::new(State {
                pending: opened.pending,
                fresh: Vec::new(),
                folding: Arc::new([]),
                rows: Some(Arc::new(opened.rows)),
                gathered_at: now,
            }),
            last: RwLock::new(opened.last),
            forgotten: Mutex::new(forgotten),
        });
        let thread = UsageThread::new(Arc::clone(&usage), opened.file);
        Ok((usage, thread))
    }

    /// Counts a verification. Costs some nanoseconds; never waits, whatever the file does.
    pub fn record(&self, verdict: &Verdict<'_>, now: Timestamp, from: Address) {
        match verdict.key {
            Some(key) => self.record_key(key.number(), key.key_id(), verdict.code, now, from),
            None => self.live.record_nameless(verdict.code),
        }
    }

    /// Counts a verification of the key that has this number in the verification index.
    pub fn record_key(&self, number: u32, id: KeyId, code: Code, now: Timestamp, from: Address) {
        self.live.record(number, id, code, now, from);
    }

    /// The last verifications of all keys, as of `now`. While it is held nothing is gathered, so keep it for the length of
    /// a query only.
    pub fn last_verifications(&self, now: Timestamp) -> LastVerifications<'_> {
        self.gather(now);
        LastVerifications(self.last.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// When a key was last verified, with whatever outcome.
    #[must_use]
    pub fn last_verified(&self, id: KeyId, now: Timestamp) -> Option<Timestamp> {
        self.last_verifications(now).of(id)
    }

    /// A key's counts of all time and its last verification: a report without parts. May read from the disk.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub fn summary(&self, id: KeyId, now: Timestamp) -> Result<Report, Error> {
        self.gather(now);
        Ok(self.total(id)?.0)
    }

    fn total(&self, id: KeyId) -> Result<(Report, Pending, Arc<Rows>), Error> {
        let (pending, rows) = {
            let state = self.state();
            (state.unfolded(id), state.rows.clone().ok_or(Error::Failed)?)
        };
        let (mut total, mut last) = rows.total(id)?;
        total.merge(&pending.total());
        last.advance(pending.last);
        let last_at = (last.at != Timestamp::default()).then_some(last.at);
        Ok((Report { total, last_at, last_from: last.from, parts: Vec::new() }, pending, rows))
    }

    /// What is known of a key, or of all verifications together for `None`, with parts from the one that holds `from` to
    /// the one that ends at or after `to`. May read from the disk.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub fn report(
        &self,
        id: Option<KeyId>,
        from: Timestamp,
        to: Timestamp,
        granularity: Granularity,
        now: Timestamp,
    ) -> Result<Report, Error> {
        self.gather(now);
        self.gathered(id.unwrap_or(EVERYTHING), from, to, granularity)
    }

    /// What is known of some keys together, in the parts that [`report`](Self::report) has. Reads from the disk for each.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub fn report_of(
        &self,
        ids: &[KeyId],
        from: Timestamp,
        to: Timestamp,
        granularity: Granularity,
        now: Timestamp,
    ) -> Result<Report, Error> {
        self.gather(now);
        let mut sum = Report::default();
        let mut parts: BTreeMap<Timestamp, Counts> = BTreeMap::new();
        for id in ids {
            let report = self.gathered(*id, from, to, granularity)?;
            sum.total.merge(&report.total);
            if report.last_at > sum.last_at {
                (sum.last_at, sum.last_from) = (report.last_at, report.last_from);
            }
            for (start, counts) in &report.parts {
                parts.entry(*start).or_default().merge(counts);
            }
        }
        Ok(Report { parts: parts.into_iter().collect(), ..sum })
    }

    fn gathered(
        &self,
        id: KeyId,
        from: Timestamp,
        to: Timestamp,
        granularity: Granularity,
    ) -> Result<Report, Error> {
        let (report, pending, rows) = self.total(id)?;
        let first = hour_of(from);
        let end = hour_of(to.saturating_add_millis(MILLIS_PER_HOUR - 1));
        let (first, end, hours_per_part) = match granularity {
            Granularity::Hour => (first, end, 1),
            Granularity::Day => (
                first / HOURS_PER_DAY * HOURS_PER_DAY,
                end.div_ceil(HOURS_PER_DAY).saturating_mul(HOURS_PER_DAY),
                HOURS_PER_DAY,
            ),
        };
        let mut parts: BTreeMap<u32, Counts> = BTreeMap::new();
        let pending_hours = pending.hours.iter().filter(|(hour, _)| (first..end).contains(hour));
        for (hour, counts) in rows.hours(id, first, end)?.iter().chain(pending_hours) {
            parts.entry(hour / hours_per_part).or_default().merge(counts);
        }
        if granularity == Granularity::Day {
            for (day, counts) in rows.days(id, first / HOURS_PER_DAY, end / HOURS_PER_DAY)? {
                parts.entry(day).or_default().merge(&counts);
            }
        }
        let start = |part: u32| Timestamp::from_millis(i64::from(part) * granularity.millis());
        let parts = parts.into_iter().map(|(part, counts)| (start(part), counts)).collect();
        Ok(Report { parts, ..report })
    }

    /// Lets go of a deleted key's usage at one of the next flushes.
    pub fn forget(&self, id: KeyId) {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }

    /// Takes what was recorded to where it can be read.
    fn gather(&self, now: Timestamp) {
        let mut state = self.state();
        let State { pending, fresh, gathered_at, .. } = &mut *state;
        let before = fresh.len();
        let mut everything = Pending::default();
        self.live.gather(|id, counts, last| {
            let gathered = Gathered { id, hour: hour_of(last.at), counts: *counts, last };
            everything.add(gathered.hour, counts, last);
            fresh.push(gathered);
        });
        let nameless = self.live.gather_nameless();
        if nameless.total() > 0 {
            everything.add(hour_of(*gathered_at), &nameless, Last { at: now, from: Address::default() });
        }
        *gathered_at = now;
        fresh.extend(everything.to_gathered(EVERYTHING));
        let gathered = fresh.get(before..).unwrap_or_default();
        if gathered.is_empty() {
            return;
        }
        add_all(pending, gathered);
        // Under the state's lock, so that nobody finds a last verification without its count.
        let mut last = self.last.write().unwrap_or_else(PoisonError::into_inner);
        for gathered in gathered.iter().filter(|gathered| gathered.id != EVERYTHING) {
            let last = last.entry(gathered.id).or_default();
            *last = gathered.last.at.max(*last);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Counts that a panic left half added are off by a little; there is nothing better to fall back to.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn unfolded(&self, id: KeyId) -> Pending {
        let mut unfolded = self.pending.get(&id).cloned().unwrap_or_default();
        if let Ok(index) = self.folding.binary_search_by_key(&id, |(id, _)| *id)
            && let Some((_, folding)) = self.folding.get(index)
        {
            unfolded.merge(folding);
        }
        unfolded
    }
}

/// The last verifications of all keys.
pub struct LastVerifications<'a>(RwLockReadGuard<'a, KeyMap<Timestamp>>);

impl LastVerifications<'_> {
    /// When a key was last verified, with whatever outcome.
    #[must_use]
    pub fn of(&self, id: KeyId) -> Option<Timestamp> {
        self.0.get(&id).copied()
    }
}

fn hour_of(time: Timestamp) -> u32 {
    u32::try_from(time.millis().max(0) / MILLIS_PER_HOUR).unwrap_or(u32::MAX)
}
