//! The file of a stored projection: rows ordered by key, and a checkpoint. Both change in one commit, so they
//! always match.
//!
//! The file holds nothing that the log does not. A file that cannot be trusted is deleted and rebuilt.

use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyledger_engine::crypto::sha256::Sha256;
use keyledger_engine::log::merkle::{self, Hash};
use keyledger_engine::log::{self, LogReader, SourceId};
use keyledger_engine::storage::redb_file::{self, Failure};
use keyledger_engine::storage::storage_panic::in_file;
use keyledger_engine::value::position::Position;
use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, StorageError, Table,
    TableDefinition,
};

const ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("rows");
const CHECKPOINT: TableDefinition<'static, (), &[u8]> = TableDefinition::new("checkpoint");
/// Page cache of a file that is read; redb's default of 1 GiB per file is too much for several files.
pub(crate) const CACHE_LEN: usize = 128 * 1024 * 1024;
/// Page cache of a file that nothing reads and that only grows at its end: no more than a processor's caches
/// may hold.
pub(crate) const WRITING_CACHE_LEN: usize = 16 * 1024 * 1024;

/// Rows are written to the file in portions of this many bytes.
const CHANGES_LEN: usize = 128 * 1024;

/// An error of a stored projection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has the file open.
    #[error("{file}: in use by another process; stop that process first")]
    InUse {
        /// Path of the file.
        file: String,
    },
    /// The file cannot be read or written.
    #[error("{file}: {reason}; check the disk, and the file's owner and permissions")]
    Unavailable {
        /// Path of the file.
        file: String,
        /// Message of the storage layer.
        reason: String,
    },
    /// The file's contents are damaged.
    #[error("{file}: damaged: {reason}; delete the file, it is rebuilt from the log")]
    Damaged {
        /// Path of the file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The projection has no rows to answer from: it is being built from the log, or was stopped.
    #[error(
        "the projection is not ready: it is being made from the log, or was stopped; try again in a moment"
    )]
    NotReady,
    /// The work was interrupted before its end.
    #[error("the projection is stopping")]
    Interrupted,
    /// The projection rejects an event.
    #[error("{projection} cannot apply the event at position {position}: {reason}")]
    Poisoned {
        /// Name of the projection.
        projection: &'static str,
        /// Position of the event.
        position: Position,
        /// Why the event is rejected.
        reason: String,
    },
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] log::Error),
}

impl Error {
    fn of(file: &str, failure: &Failure) -> Self {
        let (file, reason) = (file.to_owned(), failure.reason());
        match failure {
            Failure::InUse => Self::InUse { file },
            failure if failure.is_damage() => Self::Damaged { file, reason },
            _ => Self::Unavailable { file, reason },
        }
    }
}

/// The log that rows were made from, and up to which position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Identifies the log, and the vault whose keys opened it.
    pub source: SourceId,
    /// Position of the last record applied.
    pub position: Position,
    /// Leaf hash of the entry at that position; zeros at the start. It detects a log that was restored from
    /// an older copy and then continued differently.
    pub leaf: Hash,
    /// Version of the projection that made the rows.
    pub version: u32,
    /// The newest erasure in the log that destroyed a key when the rows were started. Rows started before an
    /// erasure may hold the erased text.
    pub erasure: Position,
}

impl Checkpoint {
    const LEN: usize = 16 + 8 + 32 + 4 + 8;

    /// Builds the checkpoint of rows made from `reader`'s log up to `position`.
    fn at(
        reader: &dyn LogReader,
        position: Position,
        version: u32,
        erasure: Position,
    ) -> Result<Self, log::Error> {
        Ok(Self { source: reader.source_id(), position, leaf: leaf_at(reader, position)?, version, erasure })
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::LEN);
        bytes.extend(self.source.0);
        bytes.extend(self.position.get().to_be_bytes());
        bytes.extend(self.leaf);
        bytes.extend(self.version.to_be_bytes());
        bytes.extend(self.erasure.get().to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (source, rest) = bytes.split_first_chunk::<16>()?;
        let (position, rest) = rest.split_first_chunk::<8>()?;
        let (leaf, rest) = rest.split_first_chunk::<32>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        Some(Self {
            source: SourceId(*source),
            position: Position::new(u64::from_be_bytes(*position)),
            leaf: *leaf,
            version: u32::from_be_bytes(*version),
            erasure: Position::new(u64::from_be_bytes(rest.try_into().ok()?)),
        })
    }

    /// Returns why rows with this checkpoint cannot be continued from `reader`'s log, or `None` if they can.
    fn mismatch(&self, reader: &dyn LogReader) -> Result<Option<String>, log::Error> {
        let head = reader.head()?;
        Ok(if self.source != reader.source_id() {
            Some("made from another log, or with the keys of another vault".into())
        } else if self.position > head {
            Some(format!("at position {}, ahead of the log's head {head}", self.position))
        } else if self.erasure != newest_erasure(reader)? {
            Some("begun before personal text was erased that it may hold".into())
        } else if self.leaf != leaf_at(reader, self.position)? {
            Some(format!("the log has another entry at position {} than it was made from", self.position))
        } else {
            None
        })
    }
}

/// Position of the newest erasure in the log that destroyed a key; the start if there is none.
pub(crate) fn newest_erasure(reader: &dyn LogReader) -> Result<Position, log::Error> {
    Ok(reader.newest_erasure()?.unwrap_or(Position::START))
}

fn leaf_at(reader: &dyn LogReader, position: Position) -> Result<Hash, log::Error> {
    let Some(before) = position.entry_index() else { return Ok([0; 32]) };
    let entries = reader.read_entries(Position::new(before), 1)?;
    Ok(entries.first().map_or([0; 32], |entry| merkle::leaf_hash(entry)))
}

/// Rows to be written in one commit. They go to the file in portions, so that not all of them are in memory.
pub struct Changes<'a> {
    rows: Rows,
    write: &'a mut dyn FnMut(&Rows) -> Result<(), redb::Error>,
    failed: Option<redb::Error>,
}

/// Encoded rows, back to back.
#[derive(Default)]
struct Rows {
    bytes: Vec<u8>,
    /// Where the key and the value of each row end in `bytes`.
    ends: Vec<(usize, usize)>,
}

impl Rows {
    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |(key_end, end)| {
            let row = (
                self.bytes.get(start..*key_end).unwrap_or_default(),
                self.bytes.get(*key_end..*end).unwrap_or_default(),
            );
            start = *end;
            row
        })
    }
}

impl Changes<'_> {
    /// Adds a row, or replaces the row with the same key. Rows must be added in ascending key order. `write`
    /// appends the value to the buffer.
    pub fn put(&mut self, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let Rows { bytes, ends } = &mut self.rows;
        bytes.extend_from_slice(key);
        let key_end = bytes.len();
        write(bytes);
        ends.push((key_end, bytes.len()));
        if bytes.len() >= CHANGES_LEN {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.failed.is_none() {
            self.failed = (self.write)(&self.rows).err();
        }
        self.rows.bytes.clear();
        self.rows.ends.clear();
    }

    fn finish(mut self) -> Result<(), redb::Error> {
        self.flush();
        self.failed.map_or(Ok(()), Err)
    }
}

/// The rows of one commit. Later commits do not change them, nor does replacing the file. Cheap to clone. It
/// keeps the file and some of its space in use, so hold it for the length of a query only.
#[derive(Clone)]
pub struct Snapshot(Arc<SnapshotInner>);

struct SnapshotInner {
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
    checkpoint: Checkpoint,
    file: Arc<str>,
    /// Keeps the file open: pages that are not in memory are read from it.
    _database: Arc<Database>,
}

/// Key and value of a row.
pub type Row = (Vec<u8>, Vec<u8>);

impl Snapshot {
    /// Opens a file as it is, without comparing it with a log or changing it.
    ///
    /// # Errors
    /// When it is not there, in use, or damaged.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = file_name(path);
        let database = Arc::new(open_database(path).map_err(|failure| Error::of(&file, &failure))?);
        snapshot_of(&database, &file).map_err(|reason| Error::Damaged { file: file.to_string(), reason })
    }

    /// How far the rows have come, and in which log.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.0.checkpoint
    }

    /// Returns what `read` makes of the value with this key, if the row exists.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get<T>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, Error> {
        let row = self.0.rows.get(key).map_err(|error| self.storage_error(error))?;
        Ok(row.map(|value| read(value.value())))
    }

    /// Iterates over the rows from the key `from` on, in ascending key order.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn rows_from(&self, from: &[u8]) -> Result<impl Iterator<Item = Result<Row, Error>> + use<>, Error> {
        let bounds = (Bound::Included(from), Bound::Unbounded);
        let range = self.0.rows.range::<&[u8]>(bounds).map_err(|error| self.storage_error(error))?;
        let snapshot = self.clone();
        Ok(range.map(move |row| {
            row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec()))
                .map_err(|error| snapshot.storage_error(error))
        }))
    }

    /// Computes a SHA-256 hash over all rows in ascending key order. Equal rows give equal hashes, whatever
    /// batches wrote them.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn digest(&self) -> Result<Hash, Error> {
        let mut hasher = Sha256::new();
        for row in self.rows_from(&[])? {
            let (key, value) = row?;
            for part in [key, value] {
                hasher.update((part.len() as u64).to_be_bytes());
                hasher.update(part);
            }
        }
        Ok(hasher.finalize())
    }

    /// Creates the error that says that a row of this file is damaged.
    #[must_use]
    pub fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::Damaged { file: self.0.file.to_string(), reason: reason.into() }
    }

    fn storage_error(&self, error: StorageError) -> Error {
        Error::of(&self.0.file, &error.into())
    }
}

/// The file, open for writing.
pub(crate) struct Store {
    database: Arc<Database>,
    file: Arc<str>,
    /// Version of the projection that made the rows.
    version: u32,
    /// See [`Checkpoint::erasure`].
    erasure: Position,
}

impl Store {
    /// Makes a file with no rows, of which so many bytes are kept in memory. None may be there.
    pub(crate) fn create(
        path: &Path,
        version: u32,
        reader: &dyn LogReader,
        cache_len: usize,
    ) -> Result<Self, Error> {
        let file = file_name(path);
        let create = || Database::builder().set_cache_size(cache_len).create(path);
        let database = redb_file::open(&file, create).map_err(|failure| Error::of(&file, &failure))?;
        Self::initialize(database, file, version, reader)
    }

    /// Rows that live in memory only.
    pub(crate) fn in_memory(version: u32, reader: &dyn LogReader) -> Result<Self, Error> {
        let file: Arc<str> = "memory".into();
        let backend = redb::backends::InMemoryBackend::new();
        let create = || Database::builder().set_cache_size(CACHE_LEN).create_with_backend(backend);
        let database = redb_file::open(&file, create).map_err(|failure| Error::of(&file, &failure))?;
        Self::initialize(database, file, version, reader)
    }

    /// Deletes the file at `path`, if it exists.
    pub(crate) fn delete(path: &Path) -> Result<(), Error> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::Unavailable { file: file_name(path).to_string(), reason: error.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// Opens the file if its rows continue from the log of `reader`, and `reads` their version. Inner error:
    /// rebuild the file. Outer error: rebuilding would not help.
    pub(crate) fn open(
        path: &Path,
        reads: impl Fn(u32) -> bool,
        reader: &dyn LogReader,
    ) -> Result<Result<Self, String>, Error> {
        let file = &file_name(path);
        let mut database = match open_database(path) {
            Ok(database) => database,
            Err(failure) if failure.is_damage() || matches!(failure, Failure::NewerFormat(_)) => {
                return Ok(Err(failure.reason()));
            }
            Err(failure) => return Err(Error::of(file, &failure)),
        };
        // Rows are trusted by every reader from here on, so that a flipped bit must show here and nowhere
        // else.
        match redb_file::open(file, || database.check_integrity()) {
            Ok(true) => {}
            Ok(false) => return Ok(Err("its checksums do not match".into())),
            Err(failure) => return Ok(Err(failure.reason())),
        }
        let database = Arc::new(database);
        let checkpoint = match snapshot_of(&database, file) {
            Ok(snapshot) => *snapshot.checkpoint(),
            Err(reason) => return Ok(Err(reason)),
        };
        let (version, erasure) = (checkpoint.version, checkpoint.erasure);
        if !reads(version) {
            return Ok(Err(format!(
                "made by version {version} of the projection, which this one cannot read"
            )));
        }
        Ok(match checkpoint.mismatch(reader)? {
            Some(reason) => Err(reason),
            None => Ok(Self { database, file: Arc::clone(file), version, erasure }),
        })
    }

    /// Builds the checkpoint of these rows once the log of `reader` is applied up to `position`.
    pub(crate) fn checkpoint_at(
        &self,
        reader: &dyn LogReader,
        position: Position,
    ) -> Result<Checkpoint, log::Error> {
        Checkpoint::at(reader, position, self.version, self.erasure)
    }

    /// Version of the projection that made the rows.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    fn initialize(
        database: Database,
        file: Arc<str>,
        version: u32,
        reader: &dyn LogReader,
    ) -> Result<Self, Error> {
        let (database, erasure) = (Arc::new(database), newest_erasure(reader)?);
        let store = Self { database, file, version, erasure };
        let checkpoint = store.checkpoint_at(reader, Position::START)?;
        store.commit(&checkpoint, true, |_| Ok(()))?;
        Ok(store)
    }

    /// Writes the rows that `collect` adds, and the checkpoint, in one commit. A commit that is not durable
    /// is lost if the process ends before the next durable one.
    pub(crate) fn commit(
        &self,
        checkpoint: &Checkpoint,
        durable: bool,
        collect: impl FnOnce(&mut Changes<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut collected = Ok(());
        let written = self.write(checkpoint, durable, |changes| {
            collected = collect(changes);
            collected.is_ok()
        });
        collected?;
        written.map_err(|error| Error::Unavailable { file: self.file.to_string(), reason: error.to_string() })
    }

    /// Commits what `collect` adds if it returns `true`.
    fn write(
        &self,
        checkpoint: &Checkpoint,
        durable: bool,
        collect: impl FnOnce(&mut Changes<'_>) -> bool,
    ) -> Result<(), redb::Error> {
        let _file = in_file(&self.file);
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
        {
            let mut table = transaction.open_table(ROWS)?;
            let last = table.last()?.map(|(key, _)| key.value().to_vec()).unwrap_or_default();
            let mut write = |rows: &Rows| write_rows(&mut table, &last, rows);
            let mut changes = Changes { rows: Rows::default(), write: &mut write, failed: None };
            if !collect(&mut changes) {
                return Ok(());
            }
            changes.finish()?;
            transaction.open_table(CHECKPOINT)?.insert((), checkpoint.to_bytes().as_slice())?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Returns the rows of the last commit.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, Error> {
        snapshot_of(&self.database, &self.file)
            .map_err(|reason| Error::Unavailable { file: self.file.to_string(), reason })
    }
}

/// One run of inserts holds this many bytes and one more row. redb keeps a run in memory until it ends, and
/// buffers of a megabyte would be allocated from the system each time.
const RUN_LEN_MAX: usize = 64 * 1024;

/// Writes rows into a table whose last key was `last` before the commit.
fn write_rows(
    table: &mut Table<'_, &'static [u8], &'static [u8]>,
    last: &[u8],
    rows: &Rows,
) -> Result<(), redb::Error> {
    let mut rows = rows.iter().peekable();
    while let Some((key, value)) = rows.next_if(|(key, _)| *key <= last) {
        table.insert(key, value)?;
    }
    // Rows after the last key are inserted as runs, which fill pages instead of splitting them.
    let mut end = table.upper_bound_mut(Bound::<&[u8]>::Unbounded)?;
    let mut run_len = 0;
    for (key, value) in rows {
        if run_len > RUN_LEN_MAX {
            end.close()?;
            end = table.upper_bound_mut(Bound::<&[u8]>::Unbounded)?;
            run_len = 0;
        }
        run_len += key.len() + value.len();
        end.insert_before(key, value).map_err(|error| match error {
            redb::CursorError::Storage(error) => redb::Error::from(error),
            error => redb::Error::Corrupted(error.to_string()),
        })?;
    }
    end.close()?;
    Ok(())
}

fn open_database(path: &Path) -> Result<Database, Failure> {
    redb_file::open(path.display(), || Database::builder().set_cache_size(CACHE_LEN).open(path))
}

fn snapshot_of(database: &Arc<Database>, file: &Arc<str>) -> Result<Snapshot, String> {
    let read = || -> Result<Option<SnapshotInner>, redb::Error> {
        let transaction = database.begin_read()?;
        let stored = transaction.open_table(CHECKPOINT)?.get(())?;
        let checkpoint = stored.and_then(|bytes| Checkpoint::from_bytes(bytes.value()));
        let rows = transaction.open_table(ROWS)?;
        Ok(checkpoint.map(|checkpoint| SnapshotInner {
            rows,
            checkpoint,
            file: Arc::clone(file),
            _database: Arc::clone(database),
        }))
    };
    match read() {
        Ok(Some(inner)) => Ok(Snapshot(Arc::new(inner))),
        Ok(None) => Err("it does not say how far it has come".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn file_name(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

/// Returns the path of the projection called `name` in the directory of projections.
#[must_use]
pub fn path_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.redb"))
}

/// Returns the path of a file in which a projection is replayed to be compared.
pub(crate) fn aside_path_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.compare.redb"))
}

/// Returns the path of the file in which a projection is rebuilt, beside [its own](path_of).
pub(crate) fn unfinished_path_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.rebuild.redb"))
}
