//! The verification index's snapshot on disk: read at the start, saved at a stop and periodically in between,
//! so that a start after a crash replays only a small part of the log.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use keyledger_engine::crypto::mac::MacKey;
use keyledger_engine::domain::record::Record;
use keyledger_engine::log::merkle::Hash;
use keyledger_engine::log::slices::Slices;
use keyledger_engine::log::{self, LogReader, merkle};
use keyledger_engine::storage::background;
use keyledger_engine::transparency::checkpoint::Checkpoint;
use keyledger_engine::transparency::entry_check::EntryCheck;
use keyledger_engine::value::position::Position;
use keyledger_projections::stored::store;
use keyledger_projections::verification::{ComparisonError, SnapshotError, VerificationIndex, temporary_of};
use tokio::sync::oneshot;

use crate::service::Service;
use crate::service::inconsistency::Inconsistency;
use crate::service::start::StartError;
use keyledger_engine::storage::atomic_file;
use keyledger_engine::storage::data_directory::DataDirectory;

/// A replay of fewer events is so quick that no snapshot is saved for it.
const EVENTS_MIN: u64 = 100_000;
/// How often to check whether a snapshot is due.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// The pause after saving a snapshot, which keeps the disk and the processor free: at least this long,
const PAUSE_MIN: Duration = Duration::from_secs(60);
/// and at least this many times as long as saving took.
const PAUSE_FACTOR: u32 = 20;
/// Disk space that is reserved for the log, in bytes.
const FREE_LEN_MIN: u64 = 256 << 20;
/// Records that are read and replayed at a time.
const REPLAY_SLICE_LEN: usize = 256;
/// How often a long replay logs its progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// The snapshot of one log's verification index.
pub(crate) struct IndexSnapshot {
    path: PathBuf,
    reader: Arc<dyn LogReader>,
    /// Vouches for the file.
    key: MacKey,
    /// The index came from the file and was not compared with the log since.
    is_unproven: AtomicBool,
    /// The position of the snapshot on disk; 0 when there is none.
    saved: AtomicU64,
    /// Held while a snapshot is saved or removed, or the index is compared: all of them walk over its keys.
    changing: Mutex<()>,
    /// The number of removals requested. A save in progress is abandoned when it changes.
    removals: AtomicU64,
}

impl IndexSnapshot {
    /// Restores the index from the data directory's snapshot, if that belongs to this log, and replays the
    /// log from there, or from the start. Reports as inconsistent a log whose events have other hashes than
    /// `signed`, its last checkpoint, or than its tree.
    ///
    /// # Errors
    /// When the log cannot be read or applied, or a snapshot that may contain erased text cannot be removed.
    pub(crate) fn restore(
        data: &DataDirectory,
        reader: Arc<dyn LogReader>,
        key: MacKey,
        signed: Option<Checkpoint>,
        inconsistency: &Inconsistency,
    ) -> Result<(Self, VerificationIndex), StartError> {
        let path = data.verification_snapshot();
        let this = Self {
            path,
            reader,
            key,
            is_unproven: AtomicBool::default(),
            saved: AtomicU64::default(),
            changing: Mutex::default(),
            removals: AtomicU64::default(),
        };
        // Left behind when a process ends while it saves.
        remove(&temporary_of(&this.path))?;
        let index = this.load()?.unwrap_or_default();
        this.saved.store(index.position().get(), Ordering::Relaxed);
        this.is_unproven.store(index.position() > Position::START, Ordering::Relaxed);
        let mut check = EntryCheck::after(this.reader.as_ref(), index.position(), signed)?;
        this.catch_up(&index, &data.log(), &mut check)?;
        if let Some(mismatch) = check.finish(this.reader.as_ref())? {
            inconsistency.report(&format!(
                "{mismatch}: the log was changed; run `replay-tool verify`, and restore a backup"
            ));
        }
        Ok((this, index))
    }

    /// Replays the log, which is in `file`, up to its head, and passes the hashes of its entries to `check`.
    fn catch_up(
        &self,
        index: &VerificationIndex,
        file: &Path,
        check: &mut EntryCheck,
    ) -> Result<(), StartError> {
        let replay = |reason: String| StartError::Replay { file: file.display().to_string(), reason };
        let (after, until) = (index.position(), self.reader.head()?);
        let mut outcome = Ok(());
        let mut reported = Instant::now();
        // All processors are free: no requests are served yet.
        Slices { after, until, len: REPLAY_SLICE_LEN, threads: Slices::all_processors() }.run(
            || |after, len| Ok(self.reader.read_with_leaves(after, len)?.into_iter().unzip()),
            |slice: Result<(Vec<Record>, Vec<Hash>), log::Error>| {
                outcome = slice.map_err(StartError::from).and_then(|(records, leaves)| {
                    check.append(leaves);
                    index.apply_all(&records).map_err(|error| replay(error.to_string()))
                });
                if reported.elapsed() >= PROGRESS_INTERVAL {
                    reported = Instant::now();
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
        let erasure = self.reader.newest_erasure()?;
        let snapshot = VerificationIndex::load_snapshot(path, Some(&self.key));
        let position = snapshot.as_ref().map_or(Position::START, |snapshot| snapshot.position);
        if erasure.is_some_and(|erasure| position < erasure) {
            // The snapshot may contain erased text.
            self.remove_files()?;
            return Ok(None);
        }
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            Err(error @ SnapshotError::Unauthentic) => {
                let file = path.display();
                tracing::error!(
                    %error, %file,
                    "the index snapshot is not used; the log is replayed instead. Find out who can write to the file"
                );
                return Ok(None);
            }
            Err(error) => {
                let file = path.display();
                tracing::warn!(%error, %file, "could not read the index snapshot; replaying the log");
                return Ok(None);
            }
        };
        let same_log = snapshot.source == self.reader.source_id()
            && position <= self.reader.head()?
            && self.entry_hash(position)? == Some(snapshot.entry_hash);
        if !same_log {
            tracing::warn!(%position, "the index snapshot is of another log or vault; replaying the log");
            return Ok(None);
        }
        tracing::info!(%position, "restored the verification index from its snapshot");
        Ok(Some(snapshot.index))
    }

    /// Saves the index while records are applied. Abandons the snapshot when `goes_on` returns false, when a
    /// removal is requested, or when the disk has little space left.
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
        // Successive snapshots have about the same length.
        let before_len = fs::metadata(&self.path).map_or(0, |file| file.len());
        let mut is_full = !self.has_room(before_len);
        let position =
            index.save_snapshot_with(&self.path, self.reader.source_id(), &self.key, entry_hash, || {
                is_full = is_full || !self.has_room(0);
                !is_full && self.removals.load(Ordering::Acquire) == removals && goes_on()
            });
        if is_full && matches!(position, Err(SnapshotError::Interrupted)) {
            let reason = format!("{}: not enough disk space beside the log", self.path.display());
            return Err(SnapshotError::Unsavable(reason.into()));
        }
        let position = position?;
        self.saved.store(position.get(), Ordering::Relaxed);
        Ok(position)
    }

    /// Saves the index of a stopped service, unless the snapshot is current or a replay would be quick.
    pub(crate) fn save_at_stop(&self, index: &VerificationIndex) {
        let position = index.position().get();
        if position < EVENTS_MIN
            || self.saved.load(Ordering::Relaxed) == position
            || index.poisoned().is_some()
        {
            return;
        }
        if let Err(error) = self.save(index, || true) {
            tracing::warn!(%error, "could not save the index snapshot; the next start replays the log");
        }
    }

    /// Removes the snapshot after an erasure, and abandons one that is being saved. The index itself must
    /// have applied the erasure.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub(crate) fn remove(&self) -> Result<(), store::Error> {
        self.removals.fetch_add(1, Ordering::AcqRel);
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.saved.store(0, Ordering::Relaxed);
        self.remove_files()
    }

    /// Whether the index came from the snapshot and was not compared with the log since.
    #[must_use]
    pub(crate) fn is_unproven(&self) -> bool {
        self.is_unproven.load(Ordering::Relaxed)
    }

    /// Compares the index with a replay of the log; see [`VerificationIndex::differs_from_replay`]. An index
    /// that differs is stopped, and the snapshot that may be the reason is removed. Returns the reason.
    /// Blocks.
    ///
    /// # Errors
    /// See [`ComparisonError`].
    pub(crate) fn compare(
        &self,
        index: &VerificationIndex,
        proceed: impl FnMut(Position, Position) -> ControlFlow<()>,
    ) -> Result<Option<String>, ComparisonError> {
        let Some(what) = index.differs_from_replay(self.reader.as_ref(), &self.changing, proceed)? else {
            self.is_unproven.store(false, Ordering::Relaxed);
            return Ok(None);
        };
        let removed = match self.remove() {
            Ok(()) => "it was removed".to_owned(),
            Err(error) => format!("remove it: {error}"),
        };
        let origin =
            if self.is_unproven() { "the index was restored from it" } else { "saved from the index" };
        let reason = format!(
            "{} ({origin}): {what} differs from a replay of the log; {removed}. Start the service again, which \
             replays the log, and find out who can write to the data directory",
            self.path.display()
        );
        index.stop(reason.clone());
        Ok(Some(reason))
    }

    fn remove_files(&self) -> Result<(), store::Error> {
        remove(&temporary_of(&self.path))?;
        remove(&self.path)
    }

    /// Whether the disk has space for `len` bytes beside the log's reserve.
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

    /// Whether enough events were applied since the last snapshot.
    fn is_due(&self, index: &VerificationIndex) -> bool {
        index.position().get().saturating_sub(self.saved.load(Ordering::Relaxed)) >= EVENTS_MIN
            && index.poisoned().is_none()
    }
}

/// Saves a snapshot whenever one is due, until the service stops.
pub(crate) async fn save_periodically(service: Arc<Service>) {
    let mut pause = CHECK_INTERVAL;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = service.stopped() => return,
        }
        pause = CHECK_INTERVAL;
        if service.inconsistency.is_refused() || !service.index_snapshot.is_due(&service.index) {
            continue;
        }
        let begun = Instant::now();
        let (sender, saved) = oneshot::channel();
        let worker = Arc::clone(&service);
        let save = move || {
            let _ = sender.send(worker.index_snapshot.save(&worker.index, || !worker.is_stopping()));
        };
        if let Err(error) = background::spawn("index-snapshot", save) {
            tracing::warn!(%error, "could not save the index snapshot");
        }
        match saved.await {
            Ok(Ok(position)) => {
                let millis = begun.elapsed().as_millis();
                tracing::info!(%position, millis, "saved the index snapshot");
            }
            // An erasure asks for a new snapshot, or the service is stopping.
            Ok(Err(SnapshotError::Interrupted)) | Err(_) => {}
            Ok(Err(error)) => tracing::warn!(%error, "could not save the index snapshot"),
        }
        pause = (begun.elapsed() * PAUSE_FACTOR).max(PAUSE_MIN);
    }
}

/// Removes a file durably, if it exists.
fn remove(path: &Path) -> Result<(), store::Error> {
    atomic_file::remove(path).map(drop).map_err(|error| store::Error::Unavailable {
        file: path.display().to_string(),
        reason: format!("may contain erased personal text, but cannot be removed: {error}"),
    })
}
