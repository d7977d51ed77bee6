//! Catches a stored projection up with the log, batch by batch. The runner's threads, `replay-tool` and the
//! tests all use this one code path.

use std::cell::Cell;
use std::fmt;
use std::fs;
use std::ops::ControlFlow;
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

/// Rows compared before the caller is asked whether to proceed.
const ROWS_AT_A_TIME: u64 = 4_096;

/// Upper bound of one read: the records are still in the processor's caches when they are applied, and their
/// memory is reused for the next slice. Larger slices would make the allocator ask the system for new memory.
const SLICE_LEN: usize = 64;

/// Batch length for a long stretch of the log. The larger it is, the more often a row that changes repeatedly
/// is written only once. At some hundred bytes per record it also bounds the memory of a rebuild.
pub const BULK_BATCH_LEN: usize = 262_144;

/// A projection with its rows and its position.
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
    /// Opens the projection's file in `directory` and resumes at its position. A file that is ahead of the
    /// log, comes from another log or another version, or is damaged, is deleted first.
    ///
    /// # Errors
    /// When the file cannot be opened or created, or the log cannot be read.
    pub fn open(directory: &Path, projection: P, reader: Arc<dyn LogReader>) -> Result<Self, Error> {
        let is_current = |version| version == P::VERSION;
        match Self::open_existing(directory, projection, Arc::clone(&reader), is_current)? {
            Ok(replay) => Ok(replay),
            Err(projection) => {
                let path = path_of(directory, P::NAME);
                Store::delete(&path)?;
                Self::start(Store::create(&path, P::VERSION, &*reader, CACHE_LEN)?, projection, reader)
            }
        }
    }

    /// Opens the projection's file in `directory` if it exists, fits the log and has rows that the projection
    /// [reads](Projection::reads). Returns the projection otherwise.
    pub(crate) fn resume(
        directory: &Path,
        projection: P,
        reader: Arc<dyn LogReader>,
    ) -> Result<Result<Self, P>, Error> {
        Self::open_existing(directory, projection, reader, P::reads)
    }

    fn open_existing(
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
        tracing::warn!(file = %path.display(), reason, "rebuilding the projection from the log");
        Ok(Err(projection))
    }

    /// Starts from nothing in a new file. The file must not exist.
    pub(crate) fn create(
        path: &Path,
        projection: P,
        reader: Arc<dyn LogReader>,
        cache_len: usize,
    ) -> Result<Self, Error> {
        Self::start(Store::create(path, P::VERSION, &*reader, cache_len)?, projection, reader)
    }

    /// Starts from nothing, with rows in memory only.
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

    /// Returns whether the rows have the projection's current version.
    pub(crate) fn is_current(&self) -> bool {
        self.store.version() == P::VERSION
    }

    /// Takes the rows away from readers, who get [`Error::NotReady`] from now on.
    pub(crate) fn close_to_readers(&mut self) {
        self.projection.close();
    }

    /// Switches readers of the projection to these rows.
    pub(crate) fn switch_readers(&self) {
        self.projection.switch_readers();
    }

    /// Drops the replay but leaves its rows to queries that have started on them. Readers must have been
    /// switched to other rows before.
    pub(crate) fn retire(mut self) {
        self.retired = true;
    }

    /// Makes [`Replay::step`] return [`Error::Interrupted`] once `interrupted` is set.
    pub(crate) fn interrupt_by(&mut self, interrupted: Arc<AtomicBool>) {
        self.interrupted = interrupted;
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Position of the last record applied.
    #[must_use]
    pub fn position(&self) -> Position {
        self.rows.checkpoint().position
    }

    /// Number of records that a crash would make the projection apply again.
    #[must_use]
    pub fn unsaved(&self) -> u64 {
        self.position().get() - self.durable.get()
    }

    /// Rows of the last commit.
    #[must_use]
    pub fn rows(&self) -> &Snapshot {
        &self.rows
    }

    /// Applies the records up to `until`, or to the log's head if that is lower, and makes them durable.
    /// `progress` receives the position after every batch.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when a record is rejected, with all records before it applied; other errors when
    /// the file or the log fails.
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

    /// Applies at most `records_max` records in one commit and returns how many. Fewer means that the log's
    /// head is reached.
    ///
    /// # Errors
    /// As [`Replay::catch_up`].
    pub fn step(&mut self, records_max: usize, durable: bool) -> Result<usize, Error> {
        match self.apply(records_max) {
            Ok(applied) => {
                self.commit(applied, durable)?;
                Ok(applied)
            }
            Err((applied, Failure::Poison(reason))) => {
                // The records before it in this batch can be applied: they were a moment ago.
                self.projection.discard(&self.rows)?;
                let position = Position::new(self.position().get() + applied as u64 + 1);
                let again = self.apply(applied).map_err(|(_, failure)| self.fatal(position, failure))?;
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

    /// Makes everything applied so far durable.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&mut self) -> Result<(), Error> {
        if self.unsaved() > 0 { self.commit(0, true) } else { Ok(()) }
    }

    fn apply(&mut self, records_max: usize) -> Result<usize, (usize, Failure)> {
        let applied = Cell::new(0);
        while applied.get() < records_max {
            if self.is_interrupted() {
                return Err((applied.get(), Failure::Other(Error::Interrupted)));
            }
            let after = Position::new(self.position().get() + applied.get() as u64);
            if let Some(group) = self.reader.recent(after) {
                let is_next = group.partition_point(|record| record.position <= after);
                let next = group.get(is_next..).unwrap_or_default();
                let next = next.get(..next.len().min(records_max - applied.get())).unwrap_or_default();
                self.apply_records(next, &applied).map_err(|failure| (applied.get(), failure))?;
                continue;
            }
            let slice_len = SLICE_LEN.min(records_max - applied.get());
            let records =
                self.reader.read(after, slice_len).map_err(|e| (applied.get(), Failure::Other(e.into())))?;
            self.apply_records(&records, &applied).map_err(|failure| (applied.get(), failure))?;
            if records.len() < slice_len {
                break;
            }
        }
        Ok(applied.get())
    }

    /// Applies records and adds their number to `applied`.
    fn apply_records(&mut self, records: &[Record], applied: &Cell<usize>) -> Result<(), Failure> {
        let (projection, rows) = (&mut self.projection, &self.rows);
        // A panic counts as a rejected record, so that the service and the other projections continue.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for record in records {
                projection.apply(rows, record)?;
                applied.set(applied.get() + 1);
            }
            Ok(())
        }));
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(projection::Error::Poison(reason))) => Err(Failure::Poison(reason)),
            Ok(Err(projection::Error::Store(error))) => Err(Failure::Other(error)),
            Err(panic) => Err(Failure::Poison(format!("the projection panicked: {}", panic_text(&*panic)))),
        }
    }

    /// Applies records that the caller has read. They follow the `applied` ones that no commit has written
    /// yet. On an error, all of these are discarded.
    pub(crate) fn apply_read(&mut self, records: &[Record], applied: usize) -> Result<(), Error> {
        let applied = Cell::new(applied);
        self.apply_records(records, &applied).map_err(|failure| {
            let position = Position::new(self.position().get() + applied.get() as u64 + 1);
            let error = self.fatal(position, failure);
            self.projection.discard(&self.rows).err().unwrap_or(error)
        })
    }

    /// Writes rows early, so that neither memory nor the last commit has to hold all of them. The checkpoint
    /// stays at the position before the batch, so a file whose batch does not end is useless.
    pub(crate) fn spill(&mut self, at_end: bool) -> Result<(), Error> {
        while self.projection.should_spill(at_end) {
            let (checkpoint, projection) = (*self.rows.checkpoint(), &mut self.projection);
            self.store.commit(&checkpoint, false, |changes| projection.spill(at_end, changes))?;
            self.rows = self.store.snapshot()?;
        }
        Ok(())
    }

    /// Commits what was applied since the last commit: `applied` records.
    pub(crate) fn commit(&mut self, applied: usize, durable: bool) -> Result<(), Error> {
        if applied == 0 && !durable {
            return Ok(());
        }
        let position = Position::new(self.position().get() + applied as u64);
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
        // Rows held by readers would keep the file locked.
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
    /// Name of the first row that differs; see [`Projection::row_name`].
    pub row: String,
    /// Whether the first set has the row.
    pub in_first: bool,
    /// Whether the second set has the row.
    pub in_second: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = &self.row;
        match (self.in_first, self.in_second) {
            (true, false) => write!(f, "{row} is in the file and not in a fresh replay"),
            (false, true) => write!(f, "{row} is in a fresh replay and not in the file"),
            _ => write!(f, "{row} differs from a fresh replay"),
        }
    }
}

/// Returns the first row, in ascending key order, in which two sets of rows of a projection differ.
///
/// # Errors
/// When rows cannot be read.
pub fn first_difference<P: Projection>(
    first: &Snapshot,
    second: &Snapshot,
) -> Result<Option<Difference>, Error> {
    first_difference_while::<P>(first, second, || ControlFlow::Continue(()))
}

/// As [`first_difference`], until `proceed` breaks, which ends in [`Error::Interrupted`]. It is called after
/// every few thousand rows, and may pause.
pub(crate) fn first_difference_while<P: Projection>(
    first: &Snapshot,
    second: &Snapshot,
    mut proceed: impl FnMut() -> ControlFlow<()>,
) -> Result<Option<Difference>, Error> {
    let (mut firsts, mut seconds) = (first.rows_from(&[])?, second.rows_from(&[])?);
    for count in 1_u64.. {
        if count.is_multiple_of(ROWS_AT_A_TIME) && proceed().is_break() {
            return Err(Error::Interrupted);
        }
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
    Ok(None)
}

pub(crate) fn make_directory(directory: &Path) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(|error| Error::Unavailable {
        file: directory.display().to_string(),
        reason: error.to_string(),
    })
}
