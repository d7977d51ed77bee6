//! The thread of a running projection: applies new records, saves, and waits for more work.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use keyledger_engine::log::{self, LogReader};
use keyledger_engine::value::position::Position;
use tokio::sync::{oneshot, watch};

use super::handle::{Shared, Status};
use super::rebuilding::{Build, built};
use super::retry::RebuildRetry;
use super::{
    COMMIT_INTERVAL_MAX, COMMIT_INTERVAL_PER_RECORD, FEW_RECORDS, LAG_MAX, LIVE_BATCH_LEN, POLL_INTERVAL,
    RETRY_INTERVAL, SAVE_AFTER, SAVE_AFTER_RECORDS,
};
use crate::stored::projection::Projection;
use crate::stored::rebuild::{Rebuild, remove_unfinished};
use crate::stored::replay::{BULK_BATCH_LEN, Replay};
use crate::stored::store::Error;

pub(super) struct Runner<P: Projection> {
    pub(super) directory: PathBuf,
    /// Never applies records itself; it creates the instances that do.
    pub(super) projection: P,
    /// `None` until the first rebuild ends, if there were no usable rows at the start.
    pub(super) replay: Option<Replay<P>>,
    pub(super) reader: Arc<dyn LogReader>,
    pub(super) head_changes: Option<watch::Receiver<Position>>,
    pub(super) position: watch::Sender<Position>,
    pub(super) shared: Arc<Shared>,
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) stop: oneshot::Receiver<()>,
    pub(super) build: Option<Build<P>>,
    pub(super) retry: Option<RebuildRetry>,
    pub(super) unsaved_since: Option<Instant>,
}

/// How a runner waits after it has applied all available records.
enum Pause {
    /// Wait for new records, or until it is time to save.
    Idle(Duration),
    /// Let records accumulate, unless a reader waits for the existing ones.
    Gathering(Duration),
}

/// Why the runner woke up.
enum Wake<P: Projection> {
    Work,
    Built(Result<Rebuild<P>, Error>),
    Stop,
    /// The [`RunnerThread`] was dropped.
    Abandoned,
}

impl<P: Projection> Runner<P> {
    /// Works until it is stopped. Returns whether to save what was applied.
    pub(super) fn run(&mut self) -> bool {
        loop {
            self.hand_out_rows();
            self.refuse_if_asked();
            self.begin_if_requested();
            self.begin_if_due();
            let pause = if self.halted() { Pause::Idle(SAVE_AFTER) } else { self.follow() };
            match self.wait(pause) {
                Wake::Work => {}
                Wake::Built(built) => self.finish(built),
                Wake::Stop => return true,
                Wake::Abandoned => return false,
            }
        }
    }

    /// Answers callers that want the current rows. Dropping their requests tells them that there are none.
    fn hand_out_rows(&self) {
        let wanted = {
            let mut wanted = self.shared.rows_wanted.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *wanted)
        };
        let replay = self.replay.as_ref().filter(|_| !self.halted());
        for sender in wanted {
            if let Some(replay) = replay {
                let _ = sender.send(replay.rows().clone());
            }
        }
    }

    fn refuse_if_asked(&mut self) {
        let refused = self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reason) = refused {
            self.refuse(reason);
        }
    }

    /// Stops because the rows are not those of the log. Readers get none until a rebuild was requested.
    pub(super) fn refuse(&mut self, reason: String) {
        self.shared.live.store(false, Ordering::Relaxed);
        if let Some(replay) = &mut self.replay {
            replay.close_to_readers();
        }
        self.retry = None;
        self.halt(Status::Failed { position: self.reached(), reason });
    }

    pub(super) fn reached(&self) -> Position {
        self.replay.as_ref().map_or(Position::START, Replay::position)
    }

    pub(super) fn halted(&self) -> bool {
        self.shared.end.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Stops applying records. Readers keep the rows they have.
    pub(super) fn halt(&self, end: Status) {
        tracing::error!(projection = P::NAME, ?end, "the projection stopped");
        *self.shared.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    /// Applies the available records and returns how to wait for more.
    fn follow(&mut self) -> Pause {
        let begun = Instant::now();
        match self.advance() {
            Ok(0) => Pause::Idle(self.idle_wait()),
            Ok(applied @ FEW_RECORDS..LIVE_BATCH_LEN) => {
                let interval = COMMIT_INTERVAL_PER_RECORD * u32::try_from(applied).unwrap_or(u32::MAX);
                Pause::Gathering(interval.min(COMMIT_INTERVAL_MAX).saturating_sub(begun.elapsed()))
            }
            // Few records: a client that alternates between writing and reading is never delayed by an
            // interval. Or more records than fit one commit.
            Ok(_) => Pause::Gathering(Duration::ZERO),
            Err(Error::Log(error @ log::Error::Unavailable(_))) => {
                tracing::warn!(projection = P::NAME, %error, "could not read the log; retrying");
                Pause::Idle(RETRY_INTERVAL)
            }
            Err(Error::Poisoned { position, reason, .. }) => {
                self.publish_position();
                self.halt(Status::Poisoned { position, reason });
                Pause::Idle(SAVE_AFTER)
            }
            Err(error) => {
                self.halt(Status::Failed { position: self.reached(), reason: error.to_string() });
                self.retry = Some(RebuildRetry::first());
                if matches!(error, Error::Damaged { .. }) && self.build.is_none() {
                    self.begin_rebuild(Vec::new());
                }
                Pause::Idle(SAVE_AFTER)
            }
        }
    }

    /// Applies the next batch, if there is one.
    fn advance(&mut self) -> Result<usize, Error> {
        let head = self.reader.head()?;
        self.shared.head.send_if_modified(|seen| std::mem::replace(seen, head) != head);
        let Some(replay) = &mut self.replay else { return Ok(0) };
        let lag = head.get().saturating_sub(replay.position().get());
        let batch_len = if lag > LAG_MAX { BULK_BATCH_LEN } else { LIVE_BATCH_LEN };
        let due = self.unsaved_since.is_some_and(|since| since.elapsed() >= SAVE_AFTER)
            || replay.unsaved() + lag.min(batch_len as u64) >= SAVE_AFTER_RECORDS;
        let applied = if lag > 0 { replay.step(batch_len, due)? } else { 0 };
        if lag == 0 && due {
            replay.save()?;
        }
        self.unsaved_since = match replay.unsaved() {
            0 => None,
            _ => self.unsaved_since.or_else(|| Some(Instant::now())),
        };
        if applied > 0 {
            self.publish_position();
        }
        self.publish_if_caught_up()?;
        Ok(applied)
    }

    /// Publishes the rows if they include everything in the log.
    pub(super) fn publish_if_caught_up(&self) -> Result<(), Error> {
        let Some(replay) = &self.replay else { return Ok(()) };
        if !self.shared.live.load(Ordering::Relaxed) && replay.position() >= self.reader.head()? {
            self.publish(replay);
        }
        Ok(())
    }

    pub(super) fn publish(&self, replay: &Replay<P>) {
        replay.switch_readers();
        self.shared.live.store(true, Ordering::Relaxed);
        self.publish_position();
    }

    /// Publishes the position of the rows that readers see.
    fn publish_position(&self) {
        if self.shared.live.load(Ordering::Relaxed) {
            self.position.send_replace(self.reached());
        } else {
            self.shared.unpublished.store(self.reached().get(), Ordering::Relaxed);
        }
    }

    fn idle_wait(&self) -> Duration {
        let poll = if self.head_changes.is_some() { SAVE_AFTER } else { POLL_INTERVAL };
        match self.unsaved_since {
            Some(since) => poll.min(SAVE_AFTER.saturating_sub(since.elapsed())),
            None => poll,
        }
    }

    /// Waits as `pause` says, or until there is other work.
    fn wait(&mut self, pause: Pause) -> Wake<P> {
        let (longest, gathering) = match pause {
            Pause::Idle(longest) => (longest, false),
            Pause::Gathering(longest) => (longest, true),
        };
        let (stop, head_changes, build, shared) =
            (&mut self.stop, &mut self.head_changes, &mut self.build, &self.shared);
        let wake = self.runtime.block_on(async {
            tokio::select! {
                biased;
                stopped = &mut *stop => if stopped.is_ok() { Wake::Stop } else { Wake::Abandoned },
                built = built(build) => Wake::Built(built),
                () = shared.rebuilding.requested.notified() => Wake::Work,
                () = tokio::time::sleep(longest), if longest.is_zero() => Wake::Work,
                () = shared.waiting.any(), if gathering => Wake::Work,
                open = changed(head_changes), if !gathering => {
                    if !open {
                        *head_changes = None;
                    }
                    Wake::Work
                }
                () = tokio::time::sleep(longest) => Wake::Work,
            }
        });
        if let Some(head_changes) = head_changes {
            head_changes.mark_unchanged();
        }
        wake
    }

    /// Ends the work. Saves what was applied if `save`.
    pub(super) fn stop(mut self, save: bool) {
        if let Some(Build { thread, interrupted, .. }) = self.build.take() {
            interrupted.store(true, Ordering::Relaxed);
            let _ = thread.join();
            let _ = remove_unfinished::<P>(&self.directory);
        }
        self.hand_out_rows();
        if self.halted() {
            return;
        }
        let position = self.reached();
        let saved = match &mut self.replay {
            Some(replay) if save => replay.save(),
            _ => Ok(()),
        };
        match saved {
            Err(error) => self.halt(Status::Failed { position, reason: error.to_string() }),
            Ok(()) => {
                let end = Some(Status::Stopped { position });
                *self.shared.end.lock().unwrap_or_else(PoisonError::into_inner) = end;
            }
        }
    }
}

/// Waits for a new head; `false` when the sender is gone.
async fn changed(head_changes: &mut Option<watch::Receiver<Position>>) -> bool {
    match head_changes {
        Some(head_changes) => head_changes.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}
