//! Makes a projection's file anew beside the present one, and puts it in its place when it is complete. Whatever ends the
//! process in between, the present file is whole, or the new one is.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use keyledger_engine::log::LogReader;
use keyledger_engine::position::Position;
use keyledger_engine::record::Record;

use crate::projection::Projection;
use crate::replay::{BULK_BATCH_LEN, Replay, make_directory, panic_text};
use crate::store::{Error, Snapshot, Store, path_of, unfinished_path_of};

/// A batch where nothing else needs the memory: most keys are then written once.
const TOGETHER_BATCH_LEN: usize = 4 * BULK_BATCH_LEN;
/// Records that are read and handed on together: few enough for their memory to be used again while it is still at hand.
const SLICE_LEN: usize = 256;
/// Slices that wait for a projection that is slower than the reading.
const SLICES_MAX: usize = 64;

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
        make_directory(directory)?;
        remove_unfinished::<P>(directory)?;
        let mut replay = Replay::create(&unfinished_path_of(directory, P::NAME), projection, reader)?;
        replay.interrupt_by(interrupted);
        Ok(Self { replay, directory: directory.to_path_buf() })
    }

    /// Takes in the log up to its head as it is now.
    pub(crate) fn catch_up(&mut self, progress: impl FnMut(Position)) -> Result<Position, Error> {
        self.replay.catch_up(Position::new(u64::MAX), BULK_BATCH_LEN, progress)
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
}

/// Takes in what it is sent, in order, and when no more comes, says how to put the new file in its place.
type Work = Box<dyn FnOnce(Receiver<Slice>) -> Result<SwapIn, Error> + Send>;
type SwapIn = Box<dyn FnOnce() -> Result<(), Error> + Send>;
type Slice = Arc<Vec<Record>>;

impl Rebuilds {
    /// None yet.
    #[must_use]
    pub fn new(directory: &Path, reader: Arc<dyn LogReader>) -> Self {
        Self { directory: directory.to_path_buf(), reader, works: Vec::new() }
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
        let rebuild = Rebuild::begin(&directory, projection, Arc::clone(&self.reader), Arc::default())?;
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
        let Self { reader, works, .. } = self;
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
            let mut read = || -> Result<(), Error> {
                while position < head {
                    let left = usize::try_from(head.get() - position.get()).unwrap_or(usize::MAX);
                    let records = Arc::new(reader.read(position, SLICE_LEN.min(left))?);
                    let Some(last) = records.last() else { break };
                    position = last.position;
                    // Who takes no more has failed, and says why in the end.
                    if senders.iter().any(|sender| sender.send(Arc::clone(&records)).is_err()) {
                        break;
                    }
                    progress(position);
                }
                Ok(())
            };
            let read = read();
            drop(senders);
            let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
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
            self.replay.apply_read(&slice, taken)?;
            taken += slice.len();
            if taken >= TOGETHER_BATCH_LEN {
                self.replay.commit(taken, true)?;
                taken = 0;
            }
        }
        self.replay.commit(taken, true)
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
