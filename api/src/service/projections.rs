//! The state of the projections: the verification index in memory, and those that are stored in files.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use keyledger_engine::value::position::Position;
use keyledger_projections::stored::runner::{ProjectionHandle, RebuildProgress, Status};

use crate::answer::problem::Problem;
use crate::service::Service;

/// The state of one projection.
pub(crate) struct ProjectionStatus {
    pub name: &'static str,
    /// The position of the last event that it has applied.
    pub position: Position,
    /// Whether it has caught up with the log.
    pub live: bool,
    /// Why it has stopped, if it has.
    pub poisoned: Option<String>,
    /// The progress of a running rebuild.
    pub rebuild: Option<RebuildProgress>,
    /// Rebuilds that finished since the start of the service, and rebuilds that failed.
    pub rebuilds: (u64, u64),
}

impl ProjectionStatus {
    /// Returns the state of a stored projection.
    #[must_use]
    pub(crate) fn of(handle: &ProjectionHandle) -> Self {
        let status = handle.status();
        let position = match status {
            Status::CatchingUp { position, .. } => position,
            _ => handle.position(),
        };
        let live = matches!(status, Status::Live);
        let poisoned = match status {
            Status::Poisoned { position, reason } => Some(format!("at position {position}: {reason}")),
            Status::Failed { position, reason } => Some(format!("after position {position}: {reason}")),
            _ => None,
        };
        let (rebuild, rebuilds) = (handle.rebuild_progress(), handle.rebuild_counts());
        Self { name: handle.name(), position, live, poisoned, rebuild, rebuilds }
    }
}

impl Service {
    /// Returns the state of every projection, the verification index first.
    #[must_use]
    pub(crate) fn projection_statuses(&self) -> Vec<ProjectionStatus> {
        let index = ProjectionStatus {
            name: "verification-index",
            position: self.index.position(),
            live: true,
            poisoned: self.index.poisoned(),
            rebuild: None,
            rebuilds: (0, 0),
        };
        let stored = self.stored_projections().map(ProjectionStatus::of);
        std::iter::once(index).chain(stored).collect()
    }

    /// The projections that are stored in files.
    #[must_use]
    pub(crate) fn stored_projections(&self) -> [&ProjectionHandle; 2] {
        [&self.key_list_handle, &self.audit_trail_handle]
    }

    /// Removes text that an erasure in the log has made unreadable from the files beside the log: deletes the
    /// verification index's snapshot and rebuilds the stored projections. When this returns, no answer and no
    /// file of the data directory contains the text. After a crash, the next start does the remaining work.
    /// Does nothing if no erasure has destroyed a key since this last succeeded.
    ///
    /// # Errors
    /// `internal` when a file cannot be removed or rebuilt, `overloaded`.
    pub(crate) async fn forget_erased(self: &Arc<Self>) -> Result<(), Problem> {
        let erasures = self.index.erasures();
        if self.forgotten_erasures.load(Ordering::Acquire) >= erasures {
            return Ok(());
        }
        let this = Arc::clone(self);
        let removed = self.blocking(move || this.index_snapshot.remove()).await?;
        removed.map_err(|error| Problem::internal(&error))?;
        let rebuilds = self.stored_projections().map(ProjectionHandle::rebuild);
        for rebuilt in rebuilds {
            let rebuilt = rebuilt.await.map_err(|error| Problem::internal(&error))?;
            rebuilt.map_err(|error| Problem::internal(&error))?;
        }
        self.forgotten_erasures.fetch_max(erasures, Ordering::AcqRel);
        Ok(())
    }
}
