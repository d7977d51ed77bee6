//! The handle of a running projection: position, status and rebuilds.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyledger_engine::value::position::Position;
use tokio::sync::{Notify, oneshot, watch};

use super::LAG_MAX;
use crate::stored::store::{Error, Snapshot};

/// State of a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It applies records from before its start, or is far behind.
    CatchingUp {
        /// Position reached so far.
        position: Position,
        /// Head of the log.
        head: Position,
    },
    /// It follows the log.
    Live,
    /// It rejected an event and stopped before it.
    Poisoned {
        /// Position of the event.
        position: Position,
        /// Why it rejects the event.
        reason: String,
    },
    /// It stopped because its file or the log failed. A restart may help.
    Failed {
        /// Position reached so far.
        position: Position,
        /// What failed.
        reason: String,
    },
    /// It was stopped.
    Stopped {
        /// Position reached so far.
        position: Position,
    },
}

/// Progress of a rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildProgress {
    /// Position of the new rows.
    pub position: Position,
    /// Head of the log.
    pub head: Position,
}

/// Why a rebuild failed. The current rows stay in use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RebuildFailed(pub(super) String);

/// Receives the outcome of a rebuild once: the position of the new rows, or the failure.
pub type RebuildOutcome = oneshot::Receiver<Result<Position, RebuildFailed>>;

pub(super) type Requester = oneshot::Sender<Result<Position, RebuildFailed>>;

/// State shared by the runner and its handles.
pub(super) struct Shared {
    pub(super) name: &'static str,
    /// The log's head as last seen.
    pub(super) head: watch::Sender<Position>,
    /// Why it applies no more records, if it has stopped.
    pub(super) end: Mutex<Option<Status>>,
    /// Whether it has reached the head once. From then on readers see it.
    pub(super) live: AtomicBool,
    /// Position of rows that readers do not see yet.
    pub(super) unpublished: AtomicU64,
    /// The rows were in a file at the start, and were not compared with the log since.
    pub(super) unproven: AtomicBool,
    /// Callers that want the current rows.
    pub(super) rows_wanted: Mutex<Vec<oneshot::Sender<Snapshot>>>,
    /// Why readers must not see the rows any more.
    pub(super) refused: Mutex<Option<String>>,
    pub(super) rebuilding: Rebuilding,
    pub(super) waiting: Waiting,
}

/// Readers that wait for the projection to reach a position.
#[derive(Default)]
pub(super) struct Waiting {
    count: AtomicUsize,
    came: Notify,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Resolves when a reader waits. It may also resolve after that reader has left.
    pub(super) async fn any(&self) {
        if self.is_empty() {
            self.came.notified().await;
        }
    }
}

/// One waiting reader. While it exists, records are applied as soon as they arrive.
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

/// State of rebuilds.
#[derive(Default)]
pub(super) struct Rebuilding {
    pub(super) running: AtomicBool,
    pub(super) position: AtomicU64,
    pub(super) finished: AtomicU64,
    pub(super) failed: AtomicU64,
    /// Callers whose rebuild has not started.
    pub(super) requesters: Mutex<Vec<Requester>>,
    pub(super) requested: Notify,
}

impl Rebuilding {
    pub(super) fn requesters(&self) -> MutexGuard<'_, Vec<Requester>> {
        self.requesters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports on a running projection and requests rebuilds. Cheap to clone.
#[derive(Clone)]
pub struct ProjectionHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) position: watch::Receiver<Position>,
}

impl ProjectionHandle {
    /// Name of the projection.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// Position of the last record that readers see.
    #[must_use]
    pub fn position(&self) -> Position {
        *self.position.borrow()
    }

    /// Waits until readers see the record at `position`. While a caller waits, records are committed as soon
    /// as they arrive. Returns `false` when the projection ends first.
    pub async fn reach(&self, position: Position) -> bool {
        if self.position() >= position {
            return true;
        }
        let _waiter = Waiter::of(&self.shared.waiting);
        self.watch().wait_for(|reached| *reached >= position).await.is_ok()
    }

    /// Subscribes to [`ProjectionHandle::position`]. The channel closes when the projection ends. Unlike
    /// [`ProjectionHandle::reach`], a subscription does not speed up commits.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.position.clone()
    }

    /// Returns the current state.
    #[must_use]
    pub fn status(&self) -> Status {
        if let Some(end) = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return end;
        }
        let (position, head) = (self.position(), *self.shared.head.borrow());
        let lag = head.get().saturating_sub(position.get());
        if !self.shared.live.load(Ordering::Relaxed) {
            let rebuilt = self.shared.rebuilding.position.load(Ordering::Relaxed);
            let unpublished = self.shared.unpublished.load(Ordering::Relaxed).max(rebuilt);
            return Status::CatchingUp { position: Position::new(unpublished), head };
        }
        if lag <= LAG_MAX { Status::Live } else { Status::CatchingUp { position, head } }
    }

    /// Whether readers see the projection. Once `true`, it stays `true`, unless the rows are
    /// [refused](Self::refuse).
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.live.load(Ordering::Relaxed)
    }

    /// Requests a rebuild from the log as it can be read from now on. The outcome arrives when readers see
    /// the new rows and the old file is gone. A request during a rebuild is queued; all requests queued
    /// meanwhile share the next rebuild.
    #[must_use]
    pub fn rebuild(&self) -> RebuildOutcome {
        let (requester, outcome) = oneshot::channel();
        self.shared.rebuilding.requesters().push(requester);
        self.shared.rebuilding.requested.notify_one();
        outcome
    }

    /// Requests a rebuild unless one is running or queued; `None` in that case.
    #[must_use]
    pub fn rebuild_if_idle(&self) -> Option<RebuildOutcome> {
        let rebuilding = &self.shared.rebuilding;
        let mut requesters = rebuilding.requesters();
        if !requesters.is_empty() || rebuilding.running.load(Ordering::Acquire) {
            return None;
        }
        let (requester, outcome) = oneshot::channel();
        requesters.push(requester);
        rebuilding.requested.notify_one();
        Some(outcome)
    }

    /// Whether the rows were in a file at the start, and nothing has shown since that they are those of the
    /// log. A rebuild shows it as well.
    #[must_use]
    pub fn is_unproven(&self) -> bool {
        self.shared.unproven.load(Ordering::Acquire)
    }

    /// Notes that the rows were compared with the log and are equal.
    pub(crate) fn note_comparison(&self) {
        self.shared.unproven.store(false, Ordering::Release);
    }

    /// Returns the rows of the last commit. Blocks until the projection's thread answers.
    ///
    /// # Errors
    /// [`Error::NotReady`] when there are none, or the projection has stopped.
    pub fn rows(&self) -> Result<Snapshot, Error> {
        if self.position.has_changed().is_err() {
            return Err(Error::NotReady);
        }
        let (sender, rows) = oneshot::channel();
        self.shared.rows_wanted.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        self.shared.rebuilding.requested.notify_one();
        rows.blocking_recv().map_err(|_| Error::NotReady)
    }

    /// Takes the rows away from readers, because they are not those of the log, and stops the projection. A
    /// rebuild brings it back.
    pub fn refuse(&self, reason: String) {
        *self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        self.shared.rebuilding.requested.notify_one();
    }

    /// Progress of the running or queued rebuild, if there is one.
    #[must_use]
    pub fn rebuild_progress(&self) -> Option<RebuildProgress> {
        let rebuilding = &self.shared.rebuilding;
        let queued = !rebuilding.requesters().is_empty();
        let running = rebuilding.running.load(Ordering::Acquire);
        let position = if running { rebuilding.position.load(Ordering::Relaxed) } else { 0 };
        (queued || running)
            .then(|| RebuildProgress { position: Position::new(position), head: *self.shared.head.borrow() })
    }

    /// How many rebuilds have succeeded and how many have failed since the start.
    #[must_use]
    pub fn rebuild_counts(&self) -> (u64, u64) {
        let Rebuilding { finished, failed, .. } = &self.shared.rebuilding;
        (finished.load(Ordering::Relaxed), failed.load(Ordering::Relaxed))
    }
}
