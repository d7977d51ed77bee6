//! Makes a projection's file anew beside the present one, and puts it in its place when it is complete. Whatever ends the
//! process in between, the present file is whole, or the new one is.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use keyledger_engine::domain::record::Record;
use keyledger_engine::log::slices::Slices;
use keyledger_engine::log::{self, LogReader};
use keyledger_engine::storage::storage_panic::panic_text;
use keyledger_engine::value::position::Position;

use crate::stored::projection::Projection;
use crate::stored::replay::{Replay, make_directory};
use crate::stored::store::{
    CACHE_LEN, Error, Snapshot, Store, WRITING_CACHE_LEN, path_of, unfinished_path_of,
};

/// Records that are read and handed on together: few enough for their memory to be used again while it is still at hand.
const SLICE_LEN: usize = 256;
/// Slices that wait for a projection that is slower than the reading.
const SLICES_MAX: usize = 64;

/// How often the disk is given what there is to write.
const WRITE_OUT_INTERVAL: Duration = Duration::from_millis(200);

/// A projection that is being made anew.
pub(crate) struct Rebuild<P: Projection> {
    replay: Replay<P>,
    directory: PathBuf,
}

impl<P: Projection> Rebuild<P> {
    /// Begins with nothing; what an earlier attempt left is removed. The work ends early with [`Error::Interrupted`] when
    /// `interrupted` says so.
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
        remove_unfinished::<P>(directory)?;
        let mut replay =
            Replay::create(&unfinished_path_of(directory, P::NAME), projection, reader, cache_len)?;
        replay.interrupt_by(interrupted);
        Ok(Self { replay, directory: directory.to_path_buf() })
    }

    /// Takes in the log of `reader` up to its head as it is now, on this thread alone: others are for callers. When the
    /// log cannot be read, what came before that is taken in.
    pub(crate) fn catch_up(
        &mut self,
        reader: &dyn LogReader,
        mut progress: impl FnMut(Position),
    ) -> Result<Position, Error> {
        let (after, until) = (self.replay.position(), reader.head()?);
        let (mut taken, mut outcome) = (0, Ok(()));
        Slices { after, until, len: SLICE_LEN, threads: 1 }.run(
            || |after, len| reader.read(after, len),
            |slice| {
                outcome = if self.replay.is_interrupted() {
                    Err(Error::Interrupted)
                } else {
                    slice.map_err(Error::from).and_then(|slice| self.take_slice(&slice, &mut taken))
                };
                progress(Position::new(after.get() + taken as u64));
                if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            },
        );
        if matches!(outcome, Ok(()) | Err(Error::Log(_))) {
            self.end_batch(taken)?;
        }
        outcome.map(|()| self.replay.position())
    }

    fn end_batch(&mut self, taken: usize) -> Result<(), Error> {
        self.replay.write_settled(true)?;
        self.replay.commit(taken, true)
    }

    /// Applies the next records after `taken` others that no commit has written, and counts them.
    fn take_slice(&mut self, slice: &[Record], taken: &mut usize) -> Result<(), Error> {
        self.replay.apply_read(slice, *taken)?;
        *taken += slice.len();
        self.replay.write_settled(false)
    }

    /// Puts the new file in the place of the present one, which is gone then.
    pub(crate) fn swap_in(mut self) -> Result<Replay<P>, Error> {
        self.replay.interrupt_by(Arc::default());
        self.replay.save()?;
        let path = path_of(&self.directory, P::NAME);
        let swapped = fs::rename(unfinished_path_of(&self.directory, P::NAME), &path)
            .and_then(|()| File::open(&self.directory)?.sync_all());
        swapped.map_err(|error| Error::Unavailable {
            file: path.display().to_string(),
            reason: format!("the new one cannot take its place: {error}"),
        })?;
        Ok(self.replay)
    }
}

/// Removes what is left of a projection that was not finished.
pub(crate) fn remove_unfinished<P: Projection>(directory: &Path) -> Result<(), Error> {
    Store::delete(&unfinished_path_of(directory, P::NAME))
}

/// Projections whose files in one directory are made anew together, from one reading of the log. Nothing else may have the
/// files open.
pub struct Rebuilds {
    directory: PathBuf,
    reader: Arc<dyn LogReader>,
    works: Vec<Work>,
    /// That are being filled.
    files: Vec<PathBuf>,
}

/// Takes in what it is sent, in order, and when no more comes, says how to put the new file in its place.
type Work = Box<dyn FnOnce(Receiver<Slice>) -> Result<SwapIn, Error> + Send>;
type SwapIn = Box<dyn FnOnce() -> Result<(), Error> + Send>;
type Slice = Arc<Vec<Record>>;

impl Rebuilds {
    /// None yet.
    #[must_use]
    pub fn new(directory: &Path, reader: Arc<dyn LogReader>) -> Self {
        Self { directory: directory.to_path_buf(), reader, works: Vec::new(), files: Vec::new() }
    }

    /// Adds one.
    ///
    /// # Errors
    /// When its file is in use, or another cannot be made beside it.
    pub fn add<P: Projection>(&mut self, projection: P) -> Result<(), Error> {
        let path = path_of(&self.directory, P::NAME);
        if path.exists() {
            // Tells whether somebody works with it.
            if let Err(error @ Error::InUse { .. }) = Snapshot::open(&path) {
                return Err(error);
            }
        }
        let directory = self.directory.clone();
        let reader = Arc::clone(&self.reader);
        let rebuild = Rebuild::begin_with(&directory, projection, reader, Arc::default(), WRITING_CACHE_LEN)?;
        self.files.push(unfinished_path_of(&directory, P::NAME));
        self.works.push(Box::new(move |slices| {
            // Whatever ends this before the new file has its place, the unfinished one goes.
            let mut unfinished = Unfinished { rebuild: Some(rebuild), directory };
            if let Some(rebuild) = &mut unfinished.rebuild {
                rebuild.take_in(slices)?;
            }
            Ok(Box::new(move || match unfinished.rebuild.take() {
                Some(rebuild) => rebuild.swap_in().map(drop),
                None => Ok(()),
            }))
        }));
        Ok(())
    }

    /// Makes them anew, and puts the new files in their places when all are complete. `progress` is told how far the log
    /// was read.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when one refuses a record, others when file or log do not work; the present files are untouched
    /// then.
    pub fn run(self, mut progress: impl FnMut(Position)) -> Result<Position, Error> {
        let Self { reader, works, files, .. } = self;
        let head = reader.head()?;
        let mut position = Position::START;
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
            let slices = Slices {
                after: Position::START,
                until: head,
                len: SLICE_LEN,
                threads: Slices::all_processors(),
            };
            let (ended, end) = sync_channel::<()>(0);
            scope.spawn(move || write_out(&files, &end));
            let mut read: Result<(), log::Error> = Ok(());
            let reader = &*reader;
            let worker = || {
                // Memory is given back by the thread that asked for it, which can use it again at once.
                let mut read = VecDeque::<Slice>::new();
                move |after, len| {
                    while read.pop_front_if(|slice| Arc::strong_count(slice) == 1).is_some() {}
                    let slice = Arc::new(reader.read(after, len)?);
                    read.push_back(Arc::clone(&slice));
                    Ok(slice)
                }
            };
            slices.run(worker, |slice| {
                let slice = match slice {
                    Ok(slice) => slice,
                    Err(error) => {
                        read = Err(error);
                        return ControlFlow::Break(());
                    }
                };
                // A log that ends before its head is taken as far as it goes.
                let whole = slice.len() == SLICE_LEN;
                if let Some(last) = slice.last() {
                    position = last.position;
                }
                // Who takes no more has failed, and says why in the end.
                if senders.iter().any(|sender| sender.send(Arc::clone(&slice)).is_err()) {
                    return ControlFlow::Break(());
                }
                progress(position);
                if whole { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            drop(senders);
            let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            drop(ended);
            (outcomes, read)
        });
        let mut swaps = Vec::new();
        for outcome in outcomes {
            swaps.push(outcome.unwrap_or_else(|panic| {
                let reason = format!("making it anew panicked: {}", panic_text(&*panic));
                Err(Error::Unavailable { file: "projections".into(), reason })
            })?);
        }
        read?;
        for swap_in in swaps {
            swap_in()?;
        }
        Ok(position)
    }
}

impl<P: Projection> Rebuild<P> {
    /// Takes in slices until no more come.
    fn take_in(&mut self, slices: Receiver<Slice>) -> Result<(), Error> {
        let mut taken = 0;
        for slice in slices {
            self.take_slice(&slice, &mut taken)?;
        }
        self.end_batch(taken)
    }
}

/// Has the disk write what the files have, now and then until the `end`: it would have all to do at the last commit otherwise,
/// and nothing before that.
fn write_out(files: &[PathBuf], end: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(WRITE_OUT_INTERVAL) {
        for file in files {
            // Whoever fills the file is told of the same error.
            let _ = File::open(file).and_then(|file| file.sync_data());
        }
    }
}

/// Removes the unfinished file when dropped before it has its place.
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

/// Makes one projection's file in `directory` anew, as [`Rebuilds`] does.
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
