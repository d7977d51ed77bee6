//! Brings a stored projection up to the log, batch by batch. The one code path for it: the runner's threads, the
//! replay tool and the tests all use it.

use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keyledger_engine::domain::record::Record;
use keyledger_engine::log::LogReader;
use keyledger_engine::storage::storage_panic::panic_text;
use keyledger_engine::value::position::Position;

use crate::stored::projection::{self, Projection};
use crate::stored::store::{CACHE_LEN, Error, Snapshot, Store, path_of};

/// Records are read in slices of at most this many: what is read is in the processor's caches still when it is taken in, and
/// its memory is that of the slice before, which for larger ones the system would have to give anew.
const SLICE_LEN: usize = 64;

/// A batch for taking in a long stretch of the log: the larger it is, the more often a row that changes again and again
/// is written only once. At some hundred bytes for each record it is also what a rebuild needs of memory.
pub const BULK_BATCH_LEN: usize = 262_144;

/// A projection, its rows, and how far it has come.
pub struct Replay<P: Projection> {
    projection: P,
    store: Store,
    rows: Snapshot,
    reader: Arc<dyn LogReader>,
    durable: Position,
    interrupted: Arc<AtomicBool>,
    retired: bool,
}

impl<P: Projection> Replay<P> {
    /// Takes up the projection's file in `directory` where it stands. A file that is ahead of the log, was made from
    /// another log or by another version, or is damaged, is deleted first.
    ///
    /// # Errors
    /// When the file cannot be opened or made, or the log cannot be read.
    pub fn open(directory: &Path, projection: P, reader: Arc<dyn LogReader>) -> Result<Self, Error> {
        let is_current = |version| version == P::VERSION;
        match Self::take_up(directory, projection, Arc::clone(&reader), is_current)? {
            Ok(replay) => Ok(replay),
            Err(projection) => {
                let path = path_of(directory, P::NAME);
                Store::delete(&path)?;
                Self::start(Store::create(&path, P::VERSION, &*reader, CACHE_LEN)?, projection, reader)
            }
        }
    }

    /// Takes up the projection's file in `directory` where it stands, if it is there and fits the log, and the projection
    /// [reads](Projection::reads) its rows; gives the projection back if not.
    pub(crate) fn resume(
        directory: &Path,
        projection: P,
        reader: Arc<dyn LogReader>,
    ) -> Result<Result<Self, P>, Error> {
        Self::take_up(directory, projection, reader, P::reads)
    }

    fn take_up(
        directory: &Path,
        mut projection: P,
        reader: Arc<dyn LogReader>,
        reads: impl Fn(u32) -> bool,
    ) -> Result<Result<Self, P>, Error> {
        make_directory(directory)?;
        let path = path_of(directory, P::NAME);
        if !path.exists() {
            return Ok(Err(projection));
        }
        let reason = match Store::open(&path, reads, &*reader)? {
            Err(reason) => reason,
            Ok(store) => {
                let rows = store.snapshot()?;
                match projection.load(rows.clone()) {
                    Ok(()) => return Ok(Ok(Self::of(projection, store, rows, reader))),
                    Err(Error::Damaged { reason, .. }) => {
                        projection.close();
                        reason
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        tracing::warn!(file = %path.display(), reason, "making the projection anew from the log");
        Ok(Err(projection))
    }

    /// Starts from nothing, in a file that must not be there yet.
    pub(crate) fn create(
        path: &Path,
        projection: P,
        reader: Arc<dyn LogReader>,
        cache_len: usize,
    ) -> Result<Self, Error> {
        Self::start(Store::create(path, P::VERSION, &*reader, cache_len)?, projection, reader)
    }

    /// Starts from nothing, with rows that live in memory only.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn in_memory(projection: P, reader: Arc<dyn LogReader>) -> Result<Self, Error> {
        Self::start(Store::in_memory(P::VERSION, &*reader)?, projection, reader)
    }

    fn start(store: Store, mut projection: P, reader: Arc<dyn LogReader>) -> Result<Self, Error> {
        let rows = store.snapshot()?;
        projection.load(rows.clone())?;
        Ok(Self::of(projection, store, rows, reader))
    }

    fn of(projection: P, store: Store, rows: Snapshot, reader: Arc<dyn LogReader>) -> Self {
        let durable = rows.checkpoint().position;
        Self { projection, store, rows, reader, durable, interrupted: Arc::default(), retired: false }
    }

    /// Whether the rows are those that this version of the projection makes.
    pub(crate) fn is_current(&self) -> bool {
        self.store.version() == P::VERSION
    }

    /// Lets readers of the projection see these rows.
    pub(crate) fn show(&self) {
        self.projection.show();
    }

    /// Ends it without taking the rows from readers who have begun with them; others must look elsewhere by now.
    pub(crate) fn retire(mut self) {
        self.retired = true;
    }

    /// Has [`Replay::step`] end with [`Error::Interrupted`] as soon as `interrupted` says so.
    pub(crate) fn interrupt_by(&mut self, interrupted: Arc<AtomicBool>) {
        self.interrupted = interrupted;
    }

    /// Whether it was told to end.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// The position of the last record taken in.
    #[must_use]
    pub fn position(&self) -> Position {
        self.rows.checkpoint().position
    }

    /// How many records would have to be taken in again if the process ended now.
    #[must_use]
    pub fn unsaved(&self) -> u64 {
        self.position().get() - self.durable.get()
    }

    /// The rows as they are.
    #[must_use]
    pub fn rows(&self) -> &Snapshot {
        &self.rows
    }

    /// Takes in the records up to `until`, or the log's head if that comes first, and saves them. `progress` is told of
    /// the position after every batch.
    ///
    /// # Errors
    /// [`Error::Poisoned`] with everything before the refused record taken in; others when file or log do not work.
    pub fn catch_up(
        &mut self,
        until: Position,
        batch_len: usize,
        mut progress: impl FnMut(Position),
    ) -> Result<Position, Error> {
        let until = until.min(self.reader.head()?);
        while self.position() < until {
            let left = usize::try_from(until.get() - self.position().get()).unwrap_or(usize::MAX);
            let durable = self.unsaved() + batch_len as u64 >= BULK_BATCH_LEN as u64;
            if self.step(batch_len.clamp(1, left), durable)? == 0 {
                break;
            }
            progress(self.position());
        }
        self.save()?;
        Ok(self.position())
    }

    /// Takes in the next records, at most `records_max`, in one commit, and says how many; fewer only at the log's head.
    ///
    /// # Errors
    /// As [`Replay::catch_up`].
    pub fn step(&mut self, records_max: usize, durable: bool) -> Result<usize, Error> {
        match self.apply(records_max) {
            Ok(taken) => {
                self.commit(taken, durable)?;
                Ok(taken)
            }
            Err((taken, Failure::Poison(reason))) => {
                // What came before in this batch is good: it was taken in without complaint a moment ago.
                self.projection.discard(&self.rows)?;
                let position = Position::new(self.position().get() + taken as u64 + 1);
                let again = self.apply(taken).map_err(|(_, failure)| self.fatal(position, failure))?;
                self.commit(again, true)?;
                Err(Error::Poisoned { projection: P::NAME, position, reason })
            }
            Err((_, Failure::Other(error))) => {
                self.projection.discard(&self.rows)?;
                Err(error)
            }
        }
    }

    fn fatal(&self, position: Position, failure: Failure) -> Error {
        match failure {
            Failure::Poison(reason) => Error::Poisoned { projection: P::NAME, position, reason },
            Failure::Other(error) => error,
        }
    }

    /// Makes everything taken in survive the end of the process.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&mut self) -> Result<(), Error> {
        if self.unsaved() > 0 { self.commit(0, true) } else { Ok(()) }
    }

    fn apply(&mut self, records_max: usize) -> Result<usize, (usize, Failure)> {
        let taken = Cell::new(0);
        while taken.get() < records_max {
            if self.is_interrupted() {
                return Err((taken.get(), Failure::Other(Error::Interrupted)));
            }
            let after = Position::new(self.position().get() + taken.get() as u64);
            if let Some(group) = self.reader.recent(after) {
                let is_next = group.partition_point(|record| record.position <= after);
                let next = group.get(is_next..).unwrap_or_default();
                let next = next.get(..next.len().min(records_max - taken.get())).unwrap_or_default();
                self.apply_records(next, &taken).map_err(|failure| (taken.get(), failure))?;
                continue;
            }
            let slice_len = SLICE_LEN.min(records_max - taken.get());
            let records =
                self.reader.read(after, slice_len).map_err(|e| (taken.get(), Failure::Other(e.into())))?;
            self.apply_records(&records, &taken).map_err(|failure| (taken.get(), failure))?;
            if records.len() < slice_len {
                break;
            }
        }
        Ok(taken.get())
    }

    /// Applies records and counts them in `taken`.
    fn apply_records(&mut self, records: &[Record], taken: &Cell<usize>) -> Result<(), Failure> {
        let (projection, rows) = (&mut self.projection, &self.rows);
        // A projection that panics is as good as one that refuses; the others and the service go on.
        let applied = catch_unwind(AssertUnwindSafe(|| {
            for record in records {
                projection.apply(rows, record)?;
                taken.set(taken.get() + 1);
            }
            Ok(())
        }));
        match applied {
            Ok(Ok(())) => Ok(()),
            Ok(Err(projection::Error::Poison(reason))) => Err(Failure::Poison(reason)),
            Ok(Err(projection::Error::Store(error))) => Err(Failure::Other(error)),
            Err(panic) => {
                Err(Failure::Poison(format!("it made the projection panic: {}", panic_text(&*panic))))
            }
        }
    }

    /// Applies records that were read elsewhere, the next ones after `taken` that no commit has written yet. After an
    /// error nothing of these is left.
    pub(crate) fn apply_read(&mut self, records: &[Record], taken: usize) -> Result<(), Error> {
        let taken = Cell::new(taken);
        self.apply_records(records, &taken).map_err(|failure| {
            let position = Position::new(self.position().get() + taken.get() as u64 + 1);
            let error = self.fatal(position, failure);
            self.projection.discard(&self.rows).err().unwrap_or(error)
        })
    }

    /// Writes rows that hardly change any more, or all but a few if there is `no_more` to come in the batch, so that neither
    /// memory nor the last commit has all of them. Of the position they say what was so before the batch: a file whose batch
    /// is cut off is of no use.
    pub(crate) fn write_settled(&mut self, no_more: bool) -> Result<(), Error> {
        while self.projection.has_settled(no_more) {
            let (checkpoint, projection) = (*self.rows.checkpoint(), &mut self.projection);
            self.store.commit(&checkpoint, false, |changes| projection.write_settled(no_more, changes))?;
            self.rows = self.store.snapshot()?;
        }
        Ok(())
    }

    /// Writes what was taken in since the last commit: this many records.
    pub(crate) fn commit(&mut self, taken: usize, durable: bool) -> Result<(), Error> {
        if taken == 0 && !durable {
            return Ok(());
        }
        let position = Position::new(self.position().get() + taken as u64);
        let checkpoint = self.store.checkpoint_at(&*self.reader, position)?;
        let projection = &mut self.projection;
        self.store.commit(&checkpoint, durable, |changes| projection.write(changes))?;
        self.rows = self.store.snapshot()?;
        self.projection.publish(self.rows.clone());
        if durable {
            self.durable = position;
        }
        Ok(())
    }
}

impl<P: Projection> Drop for Replay<P> {
    fn drop(&mut self) {
        // Readers that outlive the replay would keep the file locked.
        if !self.retired {
            self.projection.close();
        }
    }
}

enum Failure {
    Poison(String),
    Other(Error),
}

/// A difference between two sets of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What people call the first row that differs.
    pub row: String,
    /// Whether the first set has the row.
    pub in_first: bool,
    /// Whether the second set has the row.
    pub in_second: bool,
}

/// The first row, in the order of keys, by which two sets of rows of a projection differ.
///
/// # Errors
/// When rows cannot be read.
pub fn first_difference<P: Projection>(
    first: &Snapshot,
    second: &Snapshot,
) -> Result<Option<Difference>, Error> {
    let (mut firsts, mut seconds) = (first.rows_from(&[])?, second.rows_from(&[])?);
    loop {
        let (row, in_first, in_second) = match (firsts.next().transpose()?, seconds.next().transpose()?) {
            (None, None) => return Ok(None),
            (Some(first), Some(second)) if first == second => continue,
            (Some(first), Some(second)) => {
                let key = (&first.0).min(&second.0);
                (P::row_name(key), first.0 == *key, second.0 == *key)
            }
            (Some(first), None) => (P::row_name(&first.0), true, false),
            (None, Some(second)) => (P::row_name(&second.0), false, true),
        };
        return Ok(Some(Difference { row, in_first, in_second }));
    }
}

pub(crate) fn make_directory(directory: &Path) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(|error| Error::Unavailable {
        file: directory.display().to_string(),
        reason: error.to_string(),
    })
}
