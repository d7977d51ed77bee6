//! The verification index on disk: read at the start, saved at a stop, and now and then in between, so that a start after a
//! crash has little of the log to replay.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use keyledger_engine::domain::record::Record;
use keyledger_engine::log::slices::Slices;
use keyledger_engine::log::{self, LogReader, merkle};
use keyledger_engine::storage::background;
use keyledger_engine::value::position::Position;
use keyledger_projections::stored::store;
use keyledger_projections::verification::{SnapshotError, VerificationIndex, temporary_of};
use tokio::sync::oneshot;

use crate::service::{Service, StartError};
use keyledger_engine::storage::atomic_file;
use keyledger_engine::storage::data_directory::DataDirectory;

/// Below this many events a replay is so quick that no snapshot is kept, or a new one made.
const EVENTS_MIN: u64 = 100_000;
/// How often it is looked whether there is reason to save.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// After saving, the disk and the processor are left to others for this long at least,
const REST_MIN: Duration = Duration::from_secs(60);
/// and for this many times as long as saving took.
const REST: u32 = 20;
/// Space on the disk that is left to the log.
const FREE_LEN_MIN: u64 = 256 << 20;
/// Records that are read and replayed together.
const REPLAY_SLICE_LEN: usize = 256;
/// How often a long replay tells how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// The snapshot of one log's verification index.
pub(crate) struct IndexSnapshot {
    path: PathBuf,
    reader: Arc<dyn LogReader>,
    /// The position of the one that is there; 0 when there is none.
    saved: AtomicU64,
    /// Held while one is saved or removed.
    changing: Mutex<()>,
    /// How often it was to be removed. Whoever saves gives up when it changes.
    removals: AtomicU64,
}

impl IndexSnapshot {
    /// The snapshot in a data directory, and the index, brought to the head of the log: from the snapshot if that is of this
    /// log, else from the log's start.
    ///
    /// # Errors
    /// When the log cannot be read or does not apply, or when a snapshot that may hold what was erased cannot be removed.
    pub(crate) fn restore(
        data: &DataDirectory,
        reader: Arc<dyn LogReader>,
    ) -> Result<(Self, VerificationIndex), StartError> {
        let path = data.verification_snapshot();
        let this = Self {
            path,
            reader,
            saved: AtomicU64::default(),
            changing: Mutex::default(),
            removals: AtomicU64::default(),
        };
        // One that was being saved when the process ended.
        remove(&temporary_of(&this.path))?;
        let index = this.load()?.unwrap_or_default();
        this.saved.store(index.position().get(), Ordering::Relaxed);
        this.catch_up(&index, &data.log())?;
        Ok((this, index))
    }

    /// Brings the index to the head of the log, which is in `file`.
    fn catch_up(&self, index: &VerificationIndex, file: &Path) -> Result<(), StartError> {
        let replay = |reason: String| StartError::Replay { file: file.display().to_string(), reason };
        let (after, until) = (index.position(), self.reader.head()?);
        let mut outcome = Ok(());
        let mut told = Instant::now();
        // Nobody is served yet who could want a processor.
        Slices { after, until, len: REPLAY_SLICE_LEN, threads: Slices::all_processors() }.run(
            || |after, len| self.reader.read(after, len),
            |slice: Result<Vec<Record>, log::Error>| {
                outcome = slice
                    .map_err(StartError::from)
                    .and_then(|records| index.apply_all(&records).map_err(|error| replay(error.to_string())));
                if told.elapsed() >= PROGRESS_INTERVAL {
                    told = Instant::now();
                    tracing::info!(position = %index.position(), %until, "replaying the log");
                }
                if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            },
        );
        outcome?;
        let position = index.position();
        if position < until {
            Err(replay(format!("no event at position {}", position.next())))
        } else {
            Ok(())
        }
    }

    fn load(&self) -> Result<Option<VerificationIndex>, StartError> {
        let path = &self.path;
        if !path.exists() {
            return Ok(None);
        }
        let erasure = self.reader.erasures()?.last().map(|record| record.position);
        let snapshot = VerificationIndex::load_snapshot(path);
        let position = snapshot.as_ref().map_or(Position::START, |snapshot| snapshot.position);
        if erasure.is_some_and(|erasure| position < erasure) {
            // It may hold what was erased.
            self.remove_files()?;
            return Ok(None);
        }
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(%error, file = %path.display(), "the verification index is made anew");
                return Ok(None);
            }
        };
        let same_log = snapshot.source == self.reader.source_id()
            && position <= self.reader.head()?
            && self.entry_hash(position)? == Some(snapshot.entry_hash);
        if !same_log {
            tracing::warn!(%position, "the verification index's snapshot is of another log or vault; it is made anew");
            return Ok(None);
        }
        tracing::info!(%position, "the verification index was restored from its snapshot");
        Ok(Some(snapshot.index))
    }

    /// Saves the index, while records are taken in, as long as `goes_on` says so and the disk has room for the log too.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub(crate) fn save(
        &self,
        index: &VerificationIndex,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<Position, SnapshotError> {
        let removals = self.removals.load(Ordering::Acquire);
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let entry_hash = |position| {
            let hash =
                self.entry_hash(position).map_err(|error| SnapshotError::Io(io::Error::other(error)))?;
            hash.ok_or(SnapshotError::Unsavable("the log has no entry at its position".into()))
        };
        // The next one is about as long as the last.
        let before_len = fs::metadata(&self.path).map_or(0, |file| file.len());
        let mut is_full = !self.has_room(before_len);
        let position = index.save_snapshot_with(&self.path, self.reader.source_id(), entry_hash, || {
            is_full = is_full || !self.has_room(0);
            !is_full && self.removals.load(Ordering::Acquire) == removals && goes_on()
        });
        if is_full && matches!(position, Err(SnapshotError::Interrupted)) {
            let reason =
                format!("{}: the disk has little room left, which is for the log", self.path.display());
            return Err(SnapshotError::Unsavable(reason.into()));
        }
        let position = position?;
        self.saved.store(position.get(), Ordering::Relaxed);
        Ok(position)
    }

    /// Saves the index of a service that has stopped, if there is something to be saved.
    pub(crate) fn save_at_stop(&self, index: &VerificationIndex) {
        let position = index.position().get();
        if position < EVENTS_MIN
            || self.saved.load(Ordering::Relaxed) == position
            || index.poisoned().is_some()
        {
            return;
        }
        if let Err(error) = self.save(index, || true) {
            tracing::warn!(%error, "the snapshot was not saved; the next start replays");
        }
    }

    /// Removes the snapshot, if there is one; one that is being saved is given up. For a subject that was erased from the
    /// index before.
    ///
    /// # Errors
    /// When the system does not remove it.
    pub(crate) fn remove(&self) -> Result<(), store::Error> {
        self.removals.fetch_add(1, Ordering::AcqRel);
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.saved.store(0, Ordering::Relaxed);
        self.remove_files()
    }

    fn remove_files(&self) -> Result<(), store::Error> {
        remove(&temporary_of(&self.path))?;
        remove(&self.path)
    }

    /// Whether the disk can take so many bytes and have room for the log after that.
    fn has_room(&self, len: u64) -> bool {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let free = rustix::fs::statvfs(directory).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize);
        free >= FREE_LEN_MIN.saturating_add(len)
    }

    fn entry_hash(&self, position: Position) -> Result<Option<merkle::Hash>, log::Error> {
        let Some(before) = position.entry_index() else { return Ok(None) };
        let entries = self.reader.read_entries(Position::new(before), 1)?;
        Ok(entries.first().map(|entry| merkle::leaf_hash(entry)))
    }

    /// Whether enough has happened since the last one.
    fn is_due(&self, index: &VerificationIndex) -> bool {
        index.position().get().saturating_sub(self.saved.load(Ordering::Relaxed)) >= EVENTS_MIN
            && index.poisoned().is_none()
    }
}

/// Saves the snapshot whenever much has happened since the last one, until the service stops.
pub(crate) async fn keep(service: Arc<Service>) {
    let mut rest = LOOK_INTERVAL;
    loop {
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = service.stopped() => return,
        }
        rest = LOOK_INTERVAL;
        if !service.index_snapshot.is_due(&service.index) {
            continue;
        }
        let begun = Instant::now();
        let (sender, saved) = oneshot::channel();
        let worker = Arc::clone(&service);
        let save = move || {
            let _ = sender.send(worker.index_snapshot.save(&worker.index, || !worker.is_stopping()));
        };
        if let Err(error) = background::spawn("index-snapshot", save) {
            tracing::warn!(%error, "the verification index's snapshot was not saved");
        }
        match saved.await {
            Ok(Ok(position)) => {
                let millis = begun.elapsed().as_millis();
                tracing::info!(%position, millis, "saved the verification index's snapshot");
            }
            // To be begun anew, or the service stops.
            Ok(Err(SnapshotError::Interrupted)) | Err(_) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the verification index's snapshot was not saved"),
        }
        rest = (begun.elapsed() * REST).max(REST_MIN);
    }
}

/// Removes a file for good, if it is there.
fn remove(path: &Path) -> Result<(), store::Error> {
    atomic_file::remove(path).map(drop).map_err(|error| store::Error::Unavailable {
        file: path.display().to_string(),
        reason: format!("it may hold personal text that was erased, and cannot be removed: {error}"),
    })
}
