//! Makes usage durable every half second and at the stop.

use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use keyledger_engine::value::id::KeyId;
use keyledger_engine::value::time::{Clock, Timestamp};

use super::file::{Aging, Flush, Flushed, Opened, UsageFile};
use super::pending::{Pending, PendingKeys, add_all};
use super::{
    DAYS_KEPT, EVERYTHING, Error, HOURS_KEPT, HOURS_PER_DAY, MILLIS_PER_HOUR, State, Usage, hour_of,
};

/// Half of what a crash may lose, because a flush takes time too.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// Folding starts when the journal has this many bytes or entries. Folding rarely, and many entries at once,
/// saves processor time. The bound keeps the start short, which reads the journal.
const JOURNAL_LEN_MAX: usize = 128 << 20;
const JOURNAL_ENTRIES_MAX: u64 = 600;
/// Each flush folds at least this many keys, and at least one in `FOLD_FLUSHES` of the round.
const FOLD_KEYS_MIN: usize = 2_048;
const FOLD_FLUSHES: usize = 64;
/// Deleted keys removed with each flush; each may have some thousand rows.
const FORGET_KEYS_MAX: usize = 256;
/// Keys searched for old rows with each flush.
const AGE_KEYS_MAX: usize = 512;

/// Saves usage to its file. Does nothing until it is started.
pub struct UsageThread {
    pub(super) flusher: Flusher,
    is_failing: bool,
}

/// A started [`UsageThread`].
pub struct RunningUsageThread {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: thread::JoinHandle<()>,
}

impl UsageThread {
    pub(super) fn new(usage: Arc<Usage>, file: UsageFile) -> Self {
        Self { flusher: Flusher::new(usage, file), is_failing: false }
    }

    /// Starts flushing.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(mut self, clock: Arc<dyn Clock>) -> std::io::Result<RunningUsageThread> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopping = Arc::clone(&stop);
        let thread = thread::Builder::new().name("usage".into()).spawn(move || {
            loop {
                let stopped = wait(&stopping, pause(clock.now()));
                self.flush(clock.now());
                if stopped {
                    return;
                }
            }
        })?;
        Ok(RunningUsageThread { stop, thread })
    }

    /// Flushes once. After a failure, the next flush opens the file again; meanwhile only a crash can lose
    /// usage.
    pub(super) fn flush(&mut self, now: Timestamp) {
        match self.flusher.flush(now) {
            Ok(()) if self.is_failing => {
                self.is_failing = false;
                tracing::info!("usage is saved again; nothing is lost");
            }
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                tracing::error!(%error, "could not save usage; keeping it in memory and retrying");
            }
            _ => {}
        }
    }
}

impl RunningUsageThread {
    /// Flushes once more and ends the thread. Blocks.
    pub fn stop(self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        // A panic of the thread is already logged.
        let _ = self.thread.join();
    }
}

fn wait((stopped, changed): &(Mutex<bool>, Condvar), pause: Duration) -> bool {
    let stopped = stopped.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = changed.wait_timeout_while(stopped, pause, |stopped| !*stopped);
    *waited.unwrap_or_else(PoisonError::into_inner).0
}

/// Time until the next flush, or until the turn of the hour if that is earlier.
fn pause(now: Timestamp) -> Duration {
    let left = MILLIS_PER_HOUR - now.millis().rem_euclid(MILLIS_PER_HOUR);
    FLUSH_INTERVAL.min(Duration::from_millis(left.unsigned_abs()))
}

/// State kept between flushes.
pub(super) struct Flusher {
    usage: Arc<Usage>,
    /// `None` after a failed flush: redb requires the file to be opened again.
    file: Option<UsageFile>,
    failed: Option<Failed>,
    round: Option<Round>,
    /// Bytes added to the journal since the last round began.
    journal_len: usize,
    /// Sequence number at which the last round began.
    folded_at: u64,
    fold_keys_min: usize,
    aging: Option<Aging>,
    /// Day on which the search for old rows last started.
    aged_on: Option<u32>,
}

/// The keys that were pending when the round began, to be folded into their rows.
struct Round {
    /// Processed from the end.
    keys: Vec<KeyId>,
    keys_per_flush: usize,
    /// When the round ends, all journal entries up to here are in rows.
    through: u64,
}

/// A failed flush that may or may not be in the file.
struct Failed {
    path: PathBuf,
    sequence: u64,
    fresh: PendingKeys,
    /// Gathered since the failure; summed up, because that may take long.
    later: PendingKeys,
}

impl Flusher {
    fn new(usage: Arc<Usage>, file: UsageFile) -> Self {
        Self {
            usage,
            file: Some(file),
            failed: None,
            round: None,
            journal_len: 0,
            folded_at: 0,
            fold_keys_min: FOLD_KEYS_MIN,
            aging: None,
            aged_on: None,
        }
    }

    pub(super) fn flush(&mut self, now: Timestamp) -> Result<(), Error> {
        self.usage.gather(now);
        if let Some(failed) = &mut self.failed {
            add_all(&mut failed.later, &mem::take(&mut self.usage.state().fresh));
            let opened = UsageFile::open(&failed.path)?;
            self.reopened(opened);
        }
        let forgotten = self.forget();
        let aging = self.next_aging(now);
        let usage = Arc::clone(&self.usage);
        let (fresh, folding, round_ends) = {
            let mut state = usage.state();
            self.begin_round(&state.pending);
            let mut folding = Vec::new();
            let mut round_ends = None;
            if let Some(round) = &mut self.round {
                let rest = round.keys.len().saturating_sub(round.keys_per_flush);
                // A key that is no longer pending was deleted.
                let take = |id: KeyId| Some((id, state.pending.remove(&id)?));
                folding.extend(round.keys.drain(rest..).rev().filter_map(take));
                round_ends = round.keys.is_empty().then_some(round.through);
            }
            let folding: Arc<[(KeyId, Pending)]> = folding.into();
            state.folding = Arc::clone(&folding);
            (mem::take(&mut state.fresh), folding, round_ends)
        };
        let nothing = fresh.is_empty() && folding.is_empty() && forgotten.is_empty();
        if nothing && round_ends.is_none() && aging.is_none() {
            return Ok(());
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let sequence = file.next_sequence();
        let flushed = file.flush(&Flush {
            fresh: &fresh,
            folding: &folding,
            folded_through: round_ends,
            forgotten: &forgotten,
            aging,
        });
        let mut state = usage.state();
        state.folding = Arc::new([]);
        match flushed {
            Ok((Flushed { aging_after, rows }, written)) => {
                state.rows = Some(Arc::new(rows));
                drop(state);
                self.journal_len += written;
                if round_ends.is_some() {
                    self.round = None;
                }
                self.aging = aging.filter(|_| aging_after.is_some());
                if let Some(aging) = &mut self.aging {
                    aging.after = aging_after;
                }
                Ok(())
            }
            Err(error) => {
                // Rows that are still open would keep the failed file from being opened again.
                state.rows = None;
                drop(state);
                forgotten.into_iter().for_each(|id| self.usage.forget(id));
                let mut uncertain = PendingKeys::default();
                add_all(&mut uncertain, &fresh);
                let (path, later) = (file.path().to_path_buf(), PendingKeys::default());
                self.failed = Some(Failed { path, sequence, fresh: uncertain, later });
                self.file = None;
                Err(error)
            }
        }
    }

    /// Continues with a file after a failure: determines what is in it and what is not.
    fn reopened(&mut self, opened: Opened) {
        let mut state = self.usage.state();
        state.pending = opened.pending;
        state.rows = Some(Arc::new(opened.rows));
        let State { pending, fresh, .. } = &mut *state;
        if let Some(failed) = self.failed.take() {
            let is_written = opened.file.next_sequence() > failed.sequence;
            let unwritten = failed.later.iter().chain(failed.fresh.iter().filter(|_| !is_written));
            fresh.extend(unwritten.flat_map(|(id, pending)| pending.to_gathered(*id)));
        }
        {
            // The journal may still have removed keys.
            let last = self.usage.last.read().unwrap_or_else(PoisonError::into_inner);
            let is_known = |id: &KeyId| *id == EVERYTHING || last.contains_key(id);
            fresh.retain(|gathered| is_known(&gathered.id));
            pending.retain(|id, _| is_known(id));
        }
        add_all(pending, &*fresh);
        self.file = Some(opened.file);
        self.round = None;
        self.aging = None;
        self.aged_on = None;
    }

    /// Begins a round if none is running and the journal is long.
    fn begin_round(&mut self, pending: &PendingKeys) {
        let Some(sequence) = self.file.as_ref().map(UsageFile::next_sequence) else { return };
        let is_long = self.journal_len >= JOURNAL_LEN_MAX
            || sequence.saturating_sub(self.folded_at) >= JOURNAL_ENTRIES_MAX;
        if self.round.is_some() || !is_long {
            return;
        }
        let mut keys: Vec<KeyId> = pending.keys().copied().collect();
        keys.sort_unstable_by(|a, b| b.cmp(a));
        let keys_per_flush = (keys.len() / FOLD_FLUSHES).max(self.fold_keys_min);
        self.round = Some(Round { keys, keys_per_flush, through: sequence - 1 });
        self.folded_at = sequence;
        self.journal_len = 0;
    }

    /// Removes some deleted keys from memory; the flush removes their rows.
    fn forget(&self) -> Vec<KeyId> {
        let forgotten: Vec<KeyId> = {
            let mut waiting = self.usage.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
            let rest = waiting.len().saturating_sub(FORGET_KEYS_MAX);
            waiting.drain(rest..).collect()
        };
        if !forgotten.is_empty() {
            let mut state = self.usage.state();
            let mut last = self.usage.last.write().unwrap_or_else(PoisonError::into_inner);
            for id in &forgotten {
                state.pending.remove(id);
                last.remove(id);
            }
            state.fresh.retain(|gathered| !forgotten.contains(&gathered.id));
        }
        forgotten
    }

    /// Returns where to search for old rows; the search runs once a day from beginning to end.
    fn next_aging(&mut self, now: Timestamp) -> Option<Aging> {
        let hour = hour_of(now);
        let day = hour / HOURS_PER_DAY;
        if self.aging.is_none() && self.aged_on != Some(day) {
            self.aged_on = Some(day);
            // Whole days, so that no day is kept partly by hours.
            let first_hour = hour.saturating_sub(HOURS_KEPT) / HOURS_PER_DAY * HOURS_PER_DAY;
            let first_day = day.saturating_sub(DAYS_KEPT);
            self.aging = Some(Aging { after: None, limit: AGE_KEYS_MAX, first_hour, first_day });
        }
        self.aging
    }

    /// Makes the next flush start folding, `keys` at a time, and the search for old rows.
    #[cfg(test)]
    pub(super) const fn fold_soon(&mut self, keys: usize) {
        self.journal_len = JOURNAL_LEN_MAX;
        self.fold_keys_min = keys;
        self.aged_on = None;
    }

    /// Makes the next flush fail, before or after it is written.
    #[cfg(test)]
    pub(super) fn fail_next(&mut self, written: bool) {
        if let Some(file) = &mut self.file {
            file.fail_next = Some(written);
        }
    }

    #[cfg(test)]
    pub(super) const fn is_failed(&self) -> bool {
        self.file.is_none()
    }
}
