//! Usage: how often each key was verified, with which outcomes, and when and from where last.
//!
//! This is not a projection: the log does not record verifications, so a replay cannot restore usage. It has
//! its own file in the data directory.
//!
//! A verification adds to counters in memory ([`Usage::record`]), which takes some nanoseconds and never
//! waits. A thread gathers the counters and makes them durable every half second. **A crash loses at most the
//! last second**; a clean stop loses nothing. A report includes every verification that was answered before.
//!
//! A verification is counted in the hour of the key's last verification at the time of gathering. Counters
//! are also gathered at the turn of the hour, so only a verification within moments of the turn may be
//! counted in the adjacent hour.
//!
//! Hours are kept for [`HOURS_KEPT`] and then merged into days, which are kept for [`DAYS_KEPT`]. Totals and
//! the last verification are kept as long as the key. Everything is removed some time after the key is
//! deleted.

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

/// How many hours are kept separately: 90 days.
pub const HOURS_KEPT: u32 = 90 * HOURS_PER_DAY;
/// How many days are kept separately: two years.
pub const DAYS_KEPT: u32 = 731;
const HOURS_PER_DAY: u32 = 24;
const MILLIS_PER_HOUR: i64 = 60 * 60 * 1_000;
/// Stands for all verifications together in the file, including those without a key. No key has this id.
const EVERYTHING: KeyId = KeyId::from_u128(0);

/// An error of the file of usage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has the file open.
    #[error("{file}: in use by another process; stop that process first")]
    InUse {
        /// Path of the file.
        file: String,
    },
    /// The file cannot be read or written.
    #[error("{file}: {reason}")]
    Unavailable {
        /// Path of the file.
        file: String,
        /// Message of the storage layer.
        reason: String,
    },
    /// The file has failed and will be opened again.
    #[error("the usage file has failed; see the service's log")]
    Failed,
    /// The file's contents are damaged.
    #[error(
        "{file}: damaged: {reason}; restart the service; it sets the file aside and starts counting from zero"
    )]
    Damaged {
        /// Path of the file.
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

/// Last verification of a key; the time is 0 when there was none.
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

/// Length of the parts of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// Hours of UTC.
    Hour,
    /// Days of UTC.
    Day,
}

impl Granularity {
    /// Length of one part in milliseconds.
    #[must_use]
    pub const fn millis(self) -> i64 {
        match self {
            Self::Hour => MILLIS_PER_HOUR,
            Self::Day => MILLIS_PER_HOUR * HOURS_PER_DAY as i64,
        }
    }
}

/// Usage of one key, or of all verifications together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// All-time counts.
    pub total: Counts,
    /// Last verification, with any outcome.
    pub last_at: Option<Timestamp>,
    /// Address that the last verification came from.
    pub last_from: Address,
    /// Parts of the requested time with at least one verification, by their start, oldest first.
    pub parts: Vec<(Timestamp, Counts)>,
}

/// See the [module](self). All methods take `&self`; share it as an `Arc`.
pub struct Usage {
    live: LiveCounters,
    state: Mutex<State>,
    /// Last verification of every key that was ever verified. Outside the state, because lists read all of
    /// it.
    last: RwLock<KeyMap<Timestamp>>,
    /// Keys deleted since the last flush.
    forgotten: Mutex<Vec<KeyId>>,
}

struct State {
    /// Usage that is neither in a key's rows nor in `folding`; includes `fresh`.
    pending: PendingKeys,
    /// Usage that is in no journal entry yet.
    fresh: Vec<Gathered>,
    /// Usage that the running flush folds into rows.
    folding: Arc<[(KeyId, Pending)]>,
    /// `None` while the file has failed.
    rows: Option<Arc<Rows>>,
    gathered_at: Timestamp,
}

impl Usage {
    /// Opens the file of usage, or creates it. Returns the usage and the thread that saves it, not started.
    /// `living` is called at most once; usage of keys that it does not return is removed over time.
    ///
    /// # Errors
    /// When the file is in use or cannot be read or written. A damaged file is set aside, and the service's
    /// log says so.
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

    /// Counts a verification. Takes some nanoseconds and never waits for the file.
    pub fn record(&self, verdict: &Verdict<'_>, now: Timestamp, from: Address) {
        match verdict.key {
            Some(key) => self.record_key(key.number(), key.key_id(), verdict.code, now, from),
            None => self.live.record_nameless(verdict.code),
        }
    }

    /// Counts a verification of the key with this number in the verification index.
    pub fn record_key(&self, number: u32, id: KeyId, code: Code, now: Timestamp, from: Address) {
        self.live.record(number, id, code, now, from);
    }

    /// Returns the last verifications of all keys as of `now`. Nothing is gathered while it is held, so hold
    /// it for the length of a query only.
    pub fn last_verifications(&self, now: Timestamp) -> LastVerifications<'_> {
        self.gather(now);
        LastVerifications(self.last.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// When a key was last verified, with any outcome.
    #[must_use]
    pub fn last_verified(&self, id: KeyId, now: Timestamp) -> Option<Timestamp> {
        self.last_verifications(now).of(id)
    }

    /// Returns a key's all-time counts and its last verification: a report without parts. May read from the
    /// disk.
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

    /// Reports the usage of a key, or of all verifications for `None`. The parts reach from the one that
    /// contains `from` to the one that ends at or after `to`. May read from the disk.
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

    /// Reports the usage of several keys together, in the parts of [`report`](Self::report). Reads from the
    /// disk for each key.
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

    /// Removes a deleted key's usage with one of the next flushes.
    pub fn forget(&self, id: KeyId) {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }

    /// Moves recorded usage to where reports read it.
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
        // Under the state's lock, so that a reader never finds a last verification without its count.
        let mut last = self.last.write().unwrap_or_else(PoisonError::into_inner);
        for gathered in gathered.iter().filter(|gathered| gathered.id != EVERYTHING) {
            let last = last.entry(gathered.id).or_default();
            *last = gathered.last.at.max(*last);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // After a panic, counts may be off by a little; there is no better state to fall back to.
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

/// Last verifications of all keys.
pub struct LastVerifications<'a>(RwLockReadGuard<'a, KeyMap<Timestamp>>);

impl LastVerifications<'_> {
    /// When a key was last verified, with any outcome.
    #[must_use]
    pub fn of(&self, id: KeyId) -> Option<Timestamp> {
        self.0.get(&id).copied()
    }
}

fn hour_of(time: Timestamp) -> u32 {
    u32::try_from(time.millis().max(0) / MILLIS_PER_HOUR).unwrap_or(u32::MAX)
}
