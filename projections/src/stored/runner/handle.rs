//! What others know of a running projection, and ask of it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyledger_engine::value::position::Position;
use tokio::sync::{Notify, oneshot, watch};

use super::LAG_MAX;

/// How a projection is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It takes in records from before its start, or has fallen far behind.
    CatchingUp {
        /// How far it has come.
        position: Position,
        /// How far the log is.
        head: Position,
    },
    /// It follows the log.
    Live,
    /// It cannot take in an event, and has stopped before it.
    Poisoned {
        /// The event's position.
        position: Position,
        /// Why it cannot.
        reason: String,
    },
    /// It has stopped because its file or the log does not work; starting again may help.
    Failed {
        /// How far it has come.
        position: Position,
        /// What does not work.
        reason: String,
    },
    /// It was told to stop.
    Stopped {
        /// How far it has come.
        position: Position,
    },
}

/// How the making of a projection anew is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildProgress {
    /// How far the new rows have come.
    pub position: Position,
    /// How far the log is.
    pub head: Position,
}

/// Why a projection was not made anew; the present one goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RebuildFailed(pub(super) String);

/// Tells once whether a projection was made anew, and up to where.
pub type RebuildOutcome = oneshot::Receiver<Result<Position, RebuildFailed>>;

pub(super) type Asker = oneshot::Sender<Result<Position, RebuildFailed>>;

/// What the runner and those who ask after it share.
pub(super) struct Shared {
    pub(super) name: &'static str,
    /// What was last seen of the log's head.
    pub(super) head: watch::Sender<Position>,
    /// Why it takes in no more records, if it does not.
    pub(super) end: Mutex<Option<Status>>,
    /// Whether it has reached the head at some time. Readers see it from then on.
    pub(super) live: AtomicBool,
    /// How far the rows are that readers do not see yet.
    pub(super) unseen: AtomicU64,
    pub(super) rebuilding: Rebuilding,
    pub(super) waiting: Waiting,
}

/// Those who wait for the projection to come further.
#[derive(Default)]
pub(super) struct Waiting {
    count: AtomicUsize,
    came: Notify,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Resolves when there is somebody; now and then also when they have gone again.
    pub(super) async fn somebody(&self) {
        if self.is_empty() {
            self.came.notified().await;
        }
    }
}

/// Somebody who waits. As long as this is there, records are taken in as soon as they come.
struct Waiter<'a>(&'a Waiting);

impl<'a> Waiter<'a> {
    fn of(waiting: &'a Waiting) -> Self {
        waiting.count.fetch_add(1, Ordering::AcqRel);
        waiting.came.notify_one();
        Self(waiting)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is known of rebuilds by those who ask for them.
#[derive(Default)]
pub(super) struct Rebuilding {
    pub(super) running: AtomicBool,
    pub(super) position: AtomicU64,
    pub(super) finished: AtomicU64,
    pub(super) failed: AtomicU64,
    /// Those whose rebuild has not begun.
    pub(super) askers: Mutex<Vec<Asker>>,
    pub(super) asked: Notify,
}

impl Rebuilding {
    pub(super) fn askers(&self) -> MutexGuard<'_, Vec<Asker>> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells how a running projection is doing; cheap to clone.
#[derive(Clone)]
pub struct ProjectionHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) position: watch::Receiver<Position>,
}

impl ProjectionHandle {
    /// The projection's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// The position of the last record that readers of the projection see.
    #[must_use]
    pub fn position(&self) -> Position {
        *self.position.borrow()
    }

    /// Waits until readers see the record at `position`. The projection knows that somebody waits, and does not let records
    /// gather meanwhile. `false` when it ends before that.
    pub async fn reach(&self, position: Position) -> bool {
        if self.position() >= position {
            return true;
        }
        let _waiter = Waiter::of(&self.shared.waiting);
        self.watch().wait_for(|reached| *reached >= position).await.is_ok()
    }

    /// Follows [`ProjectionHandle::position`]; closes when the projection ends. Whoever follows is not waited for: see
    /// [`ProjectionHandle::reach`].
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.position.clone()
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        if let Some(end) = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return end;
        }
        let (position, head) = (self.position(), *self.shared.head.borrow());
        let lag = head.get().saturating_sub(position.get());
        if !self.shared.live.load(Ordering::Relaxed) {
            let rebuilt = self.shared.rebuilding.position.load(Ordering::Relaxed);
            let unseen = self.shared.unseen.load(Ordering::Relaxed).max(rebuilt);
            return Status::CatchingUp { position: Position::new(unseen), head };
        }
        if lag <= LAG_MAX { Status::Live } else { Status::CatchingUp { position, head } }
    }

    /// Whether readers see the projection; from then on always.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.live.load(Ordering::Relaxed)
    }

    /// Has the projection made anew, from the log as it can be read from now on. The outcome comes when the new rows are
    /// what readers see and the old file is gone. While a rebuild is running another one follows it; those who ask
    /// meanwhile share that one.
    #[must_use]
    pub fn rebuild(&self) -> RebuildOutcome {
        let (asker, outcome) = oneshot::channel();
        self.shared.rebuilding.askers().push(asker);
        self.shared.rebuilding.asked.notify_one();
        outcome
    }

    /// The same if no rebuild is running or waiting.
    #[must_use]
    pub fn rebuild_if_idle(&self) -> Option<RebuildOutcome> {
        let rebuilding = &self.shared.rebuilding;
        let mut askers = rebuilding.askers();
        if !askers.is_empty() || rebuilding.running.load(Ordering::Acquire) {
            return None;
        }
        let (asker, outcome) = oneshot::channel();
        askers.push(asker);
        rebuilding.asked.notify_one();
        Some(outcome)
    }

    /// How a rebuild is doing, if one is running or waiting.
    #[must_use]
    pub fn rebuild_progress(&self) -> Option<RebuildProgress> {
        let rebuilding = &self.shared.rebuilding;
        let asked = !rebuilding.askers().is_empty();
        let running = rebuilding.running.load(Ordering::Acquire);
        let position = if running { rebuilding.position.load(Ordering::Relaxed) } else { 0 };
        (asked || running)
            .then(|| RebuildProgress { position: Position::new(position), head: *self.shared.head.borrow() })
    }

    /// How many rebuilds have taken the place of older rows since the start, and how many did not.
    #[must_use]
    pub fn rebuild_counts(&self) -> (u64, u64) {
        let Rebuilding { finished, failed, .. } = &self.shared.rebuilding;
        (finished.load(Ordering::Relaxed), failed.load(Ordering::Relaxed))
    }
}
