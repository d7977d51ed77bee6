//! Rebuilds by a running projection: when they start, and what follows when they end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread;

use keyledger_engine::log::{self, LogReader};
use keyledger_engine::storage::background;
use keyledger_engine::value::position::Position;
use tokio::sync::oneshot;

use super::handle::{RebuildFailed, Requester, Shared, Status};
use super::retry::RebuildRetry;
use super::worker::Runner;
use super::{LIVE_BATCH_LEN, RETRY_INTERVAL};
use crate::stored::projection::Projection;
use crate::stored::rebuild::{Rebuild, remove_unfinished};
use crate::stored::store::Error;
use keyledger_engine::storage::storage_panic::panic_text;

/// A rebuild on its own thread.
pub(super) struct Build<P: Projection> {
    pub(super) outcome: oneshot::Receiver<Result<Rebuild<P>, Error>>,
    pub(super) interrupted: Arc<AtomicBool>,
    pub(super) thread: thread::JoinHandle<()>,
    pub(super) requesters: Vec<Requester>,
}

impl<P: Projection> Runner<P> {
    /// Starts a rebuild if there were no usable rows at the start, or rows of an older version.
    pub(super) fn begin_if_outdated(&mut self) {
        if self.replay.as_ref().is_none_or(|replay| !replay.is_current()) {
            self.begin_rebuild(Vec::new());
        }
    }

    /// Starts a rebuild when the retry after a failure is due.
    pub(super) fn begin_if_due(&mut self) {
        if self.build.is_none() && self.retry.as_ref().is_some_and(RebuildRetry::is_due) {
            self.begin_rebuild(Vec::new());
        }
    }

    pub(super) fn begin_if_requested(&mut self) {
        if self.build.is_some() {
            return;
        }
        let requesters = {
            let mut waiting = self.shared.rebuilding.requesters();
            if waiting.is_empty() {
                return;
            }
            // Under the lock, so that a caller always sees either a waiting rebuild or a running one.
            self.shared.rebuilding.running.store(true, Ordering::Release);
            std::mem::take(&mut *waiting)
        };
        self.begin_rebuild(requesters);
    }

    pub(super) fn begin_rebuild(&mut self, requesters: Vec<Requester>) {
        self.shared.rebuilding.running.store(true, Ordering::Release);
        self.shared.rebuilding.position.store(0, Ordering::Relaxed);
        tracing::info!(projection = P::NAME, "rebuilding the projection from the log");
        let (sender, outcome) = oneshot::channel();
        let interrupted = Arc::new(AtomicBool::new(false));
        let work = {
            let (directory, projection) = (self.directory.clone(), self.projection.new_instance());
            let (reader, interrupted) = (Arc::clone(&self.reader), Arc::clone(&interrupted));
            let shared = Arc::clone(&self.shared);
            move || {
                let build = || build(&directory, projection, reader, interrupted, &shared);
                let built = catch_unwind(AssertUnwindSafe(build)).unwrap_or_else(|panic| {
                    let reason = format!("the rebuild panicked: {}", panic_text(&*panic));
                    Err(Error::Unavailable { file: P::NAME.into(), reason })
                });
                let _ = sender.send(built);
            }
        };
        match background::spawn(format!("{} rebuild", P::NAME), work) {
            Ok(thread) => self.build = Some(Build { outcome, interrupted, thread, requesters }),
            Err(error) => {
                self.give_up(requesters, format!("could not start a thread for the rebuild: {error}"))
            }
        }
    }

    /// Replaces the current rows with the rebuilt ones.
    pub(super) fn finish(&mut self, built: Result<Rebuild<P>, Error>) {
        let Some(Build { thread, requesters, .. }) = self.build.take() else { return };
        let _ = thread.join();
        let swapped = built.and_then(|mut rebuild| {
            // Few records are left. They must be applied first: the position that readers see must not
            // decrease.
            rebuild.catch_up(&*self.reader, |_| {})?;
            rebuild.swap_in()
        });
        match swapped {
            Ok(replay) => {
                let position = replay.position();
                let before = self.replay.replace(replay);
                if let Some(replay) = &self.replay {
                    self.publish(replay);
                }
                if let Some(before) = before {
                    before.retire();
                }
                *self.shared.end.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.shared.unproven.store(false, Ordering::Release);
                self.retry = None;
                self.unsaved_since = None;
                tracing::info!(projection = P::NAME, %position, "rebuilt the projection");
                self.shared.rebuilding.finished.fetch_add(1, Ordering::Relaxed);
                self.shared.rebuilding.running.store(false, Ordering::Release);
                for requester in requesters {
                    let _ = requester.send(Ok(position));
                }
            }
            Err(error) => {
                let _ = remove_unfinished::<P>(&self.directory);
                self.retry = match &error {
                    Error::Poisoned { .. } => None,
                    _ if self.replay.is_none() => {
                        Some(self.retry.as_ref().map_or_else(RebuildRetry::first, RebuildRetry::next))
                    }
                    _ => self.retry.as_ref().map(RebuildRetry::next),
                };
                if self.replay.is_none() {
                    let reason = error.to_string();
                    self.halt(match error {
                        Error::Poisoned { position, reason, .. } => Status::Poisoned { position, reason },
                        _ => Status::Failed { position: Position::START, reason },
                    });
                    self.give_up(requesters, "it cannot be rebuilt from the log".into());
                } else {
                    self.give_up(requesters, error.to_string());
                }
            }
        }
    }

    fn give_up(&self, requesters: Vec<Requester>, reason: String) {
        tracing::error!(projection = P::NAME, reason, "could not rebuild the projection");
        self.shared.rebuilding.failed.fetch_add(1, Ordering::Relaxed);
        self.shared.rebuilding.running.store(false, Ordering::Release);
        for requester in requesters {
            let _ = requester.send(Err(RebuildFailed(reason.clone())));
        }
    }
}

/// Rebuilds the projection from a log that keeps growing meanwhile.
fn build<P: Projection>(
    directory: &Path,
    projection: P,
    reader: Arc<dyn LogReader>,
    interrupted: Arc<AtomicBool>,
    shared: &Shared,
) -> Result<Rebuild<P>, Error> {
    let interruption = Arc::clone(&interrupted);
    let mut rebuild = Rebuild::begin(directory, projection, Arc::clone(&reader), interrupted)?;
    loop {
        let progress = |at: Position| shared.rebuilding.position.store(at.get(), Ordering::Relaxed);
        let position = match rebuild.catch_up(&*reader, progress) {
            Ok(position) => position,
            Err(Error::Log(log::Error::Unavailable(_))) if !interruption.load(Ordering::Relaxed) => {
                thread::sleep(RETRY_INTERVAL);
                continue;
            }
            Err(error) => return Err(error),
        };
        if reader.head()?.get().saturating_sub(position.get()) <= LIVE_BATCH_LEN as u64 {
            return Ok(rebuild);
        }
    }
}

/// Waits for the end of a rebuild, if one is running.
pub(super) async fn built<P: Projection>(build: &mut Option<Build<P>>) -> Result<Rebuild<P>, Error> {
    match build {
        Some(build) => (&mut build.outcome).await.unwrap_or(Err(Error::NotReady)),
        None => std::future::pending().await,
    }
}
