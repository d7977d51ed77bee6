//! Rebuilds a projection's file beside the current one and renames it over that one when it is complete. A
//! crash at any moment leaves either the current file or the new one, whole.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use keyledger_engine::domain::record::Record;
use keyledger_engine::log::slices::Slices;
use keyledger_engine::log::{self, LogReader};
use keyledger_engine::storage::atomic_file;
use keyledger_engine::storage::storage_panic::panic_text;
use keyledger_engine::value::position::Position;

use crate::stored::projection::Projection;
use crate::stored::replay::{Replay, make_directory};
use crate::stored::store::{
    CACHE_LEN, Error, Snapshot, Store, WRITING_CACHE_LEN, aside_path_of, path_of, unfinished_path_of,
};

/// Records read and handed over together: few enough that their memory is reused while it is still in the
/// processor's caches.
const SLICE_LEN: usize = 256;
/// Slices buffered for a projection that is slower than the reader.
const SLICES_MAX: usize = 64;

/// How often written pages are flushed to the disk.
const WRITE_OUT_INTERVAL: Duration = Duration::from_millis(200);

/// A rebuild in progress.
pub(crate) struct Rebuild<P: Projection> {
    replay: Replay<P>,
    directory: PathBuf,
}

impl<P: Projection> Rebuild<P> {
    /// Starts from an empty file and deletes what an earlier attempt left. The work ends early with
    /// [`Error::Interrupted`] once `interrupted` is set.
    pub(crate) fn begin(
        directory: &Path,
        projection: P,
        reader: Arc<dyn LogReader>,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        Self::begin_with(directory, projection, reader, interrupted, CACHE_LEN)
    }

    fn begin_with(
        directory: &Path,
        projection: P,
        reader: Arc<dyn LogReader>,
        interrupted: Arc<AtomicBool>,
        cache_len: usize,
    ) -> Result<Self, Error> {
        make_directory(directory)?;
        let path = unfinished_path_of(directory, P::NAME);
        Self::in_file(&path, directory, projection, reader, interrupted, cache_len)
    }

    /// Starts from an empty file that nothing reads and that is never renamed. It has no name, so nothing
    /// remains of it however the process ends.
    pub(crate) fn begin_aside(
        directory: &Path,
        projection: P,
        reader: Arc<dyn LogReader>,
    ) -> Result<Self, Error> {
        let path = aside_path_of(directory, P::NAME);
        let begun = Self::in_file(&path, directory, projection, reader, Arc::default(), WRITING_CACHE_LEN)?;
        Store::delete(&path)?;
        Ok(begun)
    }

    fn in_file(
        path: &Path,
        directory: &Path,
        projection: P,
        reader: Arc<dyn LogReader>,
        interrupted: Arc<AtomicBool>,
        cache_len: usize,
    ) -> Result<Self, Error> {
        Store::delete(path)?;
        let mut replay = Replay::create(path, projection, reader, cache_len)?;
        replay.interrupt_by(interrupted);
        Ok(Self { replay, directory: directory.to_path_buf() })
    }

    /// Rows of the last commit.
    pub(crate) fn rows(&self) -> &Snapshot {
        self.replay.rows()
    }

    /// Applies the log of `reader` up to its current head, on this thread only, because the other processors
    /// serve callers. When the log cannot be read, the records before the failure are still applied and
    /// committed.
    pub(crate) fn catch_up(
        &mut self,
        reader: &dyn LogReader,
        mut progress: impl FnMut(Position),
    ) -> Result<Position, Error> {
        let head = reader.head()?;
        self.catch_up_to(reader, head, |position| {
            progress(position);
            ControlFlow::Continue(())
        })
    }

    /// As [`catch_up`](Self::catch_up), up to `until`, or until `proceed` breaks, which ends in
    /// [`Error::Interrupted`].
    pub(crate) fn catch_up_to(
        &mut self,
        reader: &dyn LogReader,
        until: Position,
        mut proceed: impl FnMut(Position) -> ControlFlow<()>,
    ) -> Result<Position, Error> {
        let after = self.replay.position();
        let (mut applied, mut outcome) = (0, Ok(()));
        Slices { after, until, len: SLICE_LEN, threads: 1 }.run(
            || |after, len| reader.read(after, len),
            |slice| {
                outcome = if self.replay.is_interrupted() {
                    Err(Error::Interrupted)
                } else {
                    slice.map_err(Error::from).and_then(|slice| self.apply_slice(&slice, &mut applied))
                };
                if proceed(Position::new(after.get() + applied as u64)).is_break() && outcome.is_ok() {
                    outcome = Err(Error::Interrupted);
                }
                if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            },
        );
        if matches!(outcome, Ok(()) | Err(Error::Log(_))) {
            self.end_batch(applied)?;
        }
        outcome.map(|()| self.replay.position())
    }

    fn end_batch(&mut self, applied: usize) -> Result<(), Error> {
        self.replay.spill(true)?;
        self.replay.commit(applied, true)
    }

    /// Applies the records that follow `applied` uncommitted ones, and adds their number to it.
    fn apply_slice(&mut self, slice: &[Record], applied: &mut usize) -> Result<(), Error> {
        self.replay.apply_read(slice, *applied)?;
        *applied += slice.len();
        self.replay.spill(false)
    }

    /// Renames the new file over the current one.
    pub(crate) fn swap_in(mut self) -> Result<Replay<P>, Error> {
        self.replay.interrupt_by(Arc::default());
        self.replay.save()?;
        let path = path_of(&self.directory, P::NAME);
        let swapped = atomic_file::rename(&unfinished_path_of(&self.directory, P::NAME), &path);
        swapped.map_err(|error| Error::Unavailable {
            file: path.display().to_string(),
            reason: format!("the rebuilt file could not be renamed over it: {error}"),
        })?;
        Ok(self.replay)
    }
}

/// Deletes the files that an unfinished rebuild or comparison left.
pub(crate) fn remove_unfinished<P: Projection>(directory: &Path) -> Result<(), Error> {
    Store::delete(&aside_path_of(directory, P::NAME))?;
    Store::delete(&unfinished_path_of(directory, P::NAME))
}

/// Projections of one directory that are rebuilt together in one pass over the log. No other process may have
/// their files open.
pub struct Rebuilds {
    directory: PathBuf,
    reader: Arc<dyn LogReader>,
    works: Vec<Work>,
    /// Files being filled.
    files: Vec<PathBuf>,
}

/// Applies the slices it receives, in order. When the channel closes, returns the function that renames the
/// new file into place.
type Work = Box<dyn FnOnce(Receiver<Slice>) -> Result<SwapIn, Error> + Send>;
type SwapIn = Box<dyn FnOnce() -> Result<(), Error> + Send>;
type Slice = Arc<Vec<Record>>;

impl Rebuilds {
    /// Creates an empty set.
    #[must_use]
    pub fn new(directory: &Path, reader: Arc<dyn LogReader>) -> Self {
        Self { directory: directory.to_path_buf(), reader, works: Vec::new(), files: Vec::new() }
    }

    /// Adds a projection.
    ///
    /// # Errors
    /// When its file is in use, or no file can be created beside it.
    pub fn add<P: Projection>(&mut self, projection: P) -> Result<(), Error> {
        let path = path_of(&self.directory, P::NAME);
        if path.exists() {
            // Opening the file shows whether another process has it open.
            if let Err(error @ Error::InUse { .. }) = Snapshot::open(&path) {
                return Err(error);
            }
        }
        let directory = self.directory.clone();
        let reader = Arc::clone(&self.reader);
        let rebuild = Rebuild::begin_with(&directory, projection, reader, Arc::default(), WRITING_CACHE_LEN)?;
        self.files.push(unfinished_path_of(&directory, P::NAME));
        self.works.push(Box::new(move |slices| {
            // Deletes the unfinished file if anything fails before the rename.
            let mut unfinished = Unfinished { rebuild: Some(rebuild), directory };
            if let Some(rebuild) = &mut unfinished.rebuild {
                rebuild.apply_slices(slices)?;
            }
            Ok(Box::new(move || match unfinished.rebuild.take() {
                Some(rebuild) => rebuild.swap_in().map(drop),
                None => Ok(()),
            }))
        }));
        Ok(())
    }

    /// Rebuilds the projections and renames the new files into place once all are complete. `progress`
    /// receives the position read so far.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when a projection rejects a record; other errors when a file or the log fails. The
    /// current files are then unchanged.
    pub fn run(self, progress: impl FnMut(Position)) -> Result<Position, Error> {
        let Self { reader, works, files, .. } = self;
        let head = reader.head()?;
        let (outcomes, read) = thread::scope(|scope| {
            let mut senders = Vec::new();
            let threads: Vec<_> = works
                .into_iter()
                .map(|work| {
                    let (sender, slices) = sync_channel(SLICES_MAX);
                    senders.push(sender);
                    scope.spawn(move || work(slices))
                })
                .collect();
            let (ended, end) = sync_channel::<()>(0);
            scope.spawn(move || write_out(&files, &end));
            let read = read_log(&*reader, head, senders, progress);
            let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            drop(ended);
            (outcomes, read)
        });
        let mut swaps = Vec::new();
        for outcome in outcomes {
            swaps.push(outcome.unwrap_or_else(|panic| {
                let reason = format!("the rebuild panicked: {}", panic_text(&*panic));
                Err(Error::Unavailable { file: "projections".into(), reason })
            })?);
        }
        let position = read?;
        for swap_in in swaps {
            swap_in()?;
        }
        Ok(position)
    }
}

/// Reads the log up to `head` on all processors and sends it, in order, to every one of `senders`. Ends early
/// when a receiver is gone. Returns the position of the last record read.
fn read_log(
    reader: &dyn LogReader,
    head: Position,
    senders: Vec<SyncSender<Slice>>,
    mut progress: impl FnMut(Position),
) -> Result<Position, log::Error> {
    let worker = || {
        // Each reader thread frees the records it allocated, so that its allocator reuses the memory at once.
        let mut read = VecDeque::<Slice>::new();
        move |after, len| {
            while read.pop_front_if(|slice| Arc::strong_count(slice) == 1).is_some() {}
            let slice = Arc::new(reader.read(after, len)?);
            read.push_back(Arc::clone(&slice));
            Ok(slice)
        }
    };
    let mut outcome = Ok(Position::START);
    let threads = Slices::all_processors();
    Slices { after: Position::START, until: head, len: SLICE_LEN, threads }.run(worker, |slice| {
        let slice = match slice {
            Ok(slice) => slice,
            Err(error) => {
                outcome = Err(error);
                return ControlFlow::Break(());
            }
        };
        // A log that ends before its head is applied as far as it goes.
        let whole = slice.len() == SLICE_LEN;
        if let Some(last) = slice.last() {
            outcome = Ok(last.position);
        }
        // A closed channel means that the projection failed. Joining its thread returns the error.
        if senders.iter().any(|sender| sender.send(Arc::clone(&slice)).is_err()) {
            return ControlFlow::Break(());
        }
        if let Ok(position) = outcome {
            progress(position);
        }
        if whole { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    outcome
}

impl<P: Projection> Rebuild<P> {
    /// Applies slices until the channel closes.
    fn apply_slices(&mut self, slices: Receiver<Slice>) -> Result<(), Error> {
        let mut applied = 0;
        for slice in slices {
            self.apply_slice(&slice, &mut applied)?;
        }
        self.end_batch(applied)
    }
}

/// Flushes the files to the disk every [`WRITE_OUT_INTERVAL`] until `end` closes. Otherwise the last commit
/// would have to write everything while the disk idles before it.
fn write_out(files: &[PathBuf], end: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(WRITE_OUT_INTERVAL) {
        for file in files {
            // The thread that fills the file gets the same error.
            let _ = File::open(file).and_then(|file| file.sync_data());
        }
    }
}

/// Deletes the unfinished file on drop, unless it was renamed into place.
struct Unfinished<P: Projection> {
    rebuild: Option<Rebuild<P>>,
    directory: PathBuf,
}

impl<P: Projection> Drop for Unfinished<P> {
    fn drop(&mut self) {
        if self.rebuild.take().is_some() {
            let _ = remove_unfinished::<P>(&self.directory);
        }
    }
}

/// Rebuilds the file of one projection in `directory`; see [`Rebuilds`].
///
/// # Errors
/// As [`Rebuilds::run`].
pub fn rebuild<P: Projection>(
    directory: &Path,
    projection: P,
    reader: Arc<dyn LogReader>,
    progress: impl FnMut(Position),
) -> Result<Position, Error> {
    let mut rebuilds = Rebuilds::new(directory, reader);
    rebuilds.add(projection)?;
    rebuilds.run(progress)
}
