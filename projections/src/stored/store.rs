//! The file of a stored projection: ordered rows, and how far the log has been taken into them. Both change in one
//! commit, so that neither is ever without the other.
//!
//! The file holds nothing that the log does not: whenever it cannot be trusted, it is thrown away and made anew.

use std::fs;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyledger_engine::log::merkle::{self, Hash};
use keyledger_engine::log::{self, LogReader, SourceId};
use keyledger_engine::storage::storage_panic::in_file;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::sha256::Sha256;
use redb::{
    Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, StorageError, Table,
    TableDefinition,
};

const ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("rows");
const CHECKPOINT: TableDefinition<'static, (), &[u8]> = TableDefinition::new("checkpoint");
/// Pages kept in memory; redb's own choice of 1 GiB per file would be too much for several files.
pub(crate) const CACHE_LEN: usize = 128 * 1024 * 1024;
/// Pages kept in memory where nobody reads and rows are added at the end: no more than a processor's caches may have.
pub(crate) const WRITING_CACHE_LEN: usize = 16 * 1024 * 1024;

/// Rows are handed to the file when they have come to this many bytes.
const CHANGES_LEN: usize = 128 * 1024;

/// What goes wrong with a stored projection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has the file open.
    #[error("{file}: in use by another process; stop that process first")]
    InUse {
        /// The file.
        file: String,
    },
    /// The file cannot be read or written.
    #[error("{file}: {reason}; check the disk, and the file's owner and permissions")]
    Unavailable {
        /// The file.
        file: String,
        /// What the storage says.
        reason: String,
    },
    /// The file's contents are not what was written.
    #[error("{file}: damaged: {reason}; delete the file, it is rebuilt from the log")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The projection has no rows to answer from: it is being made from the log, or was stopped.
    #[error(
        "the projection is not ready: it is being made from the log, or was stopped; try again in a moment"
    )]
    NotReady,
    /// The work was told to stop before its end.
    #[error("the projection was told to stop")]
    Interrupted,
    /// An event that the projection cannot take in.
    #[error("{projection} cannot take in the event at position {position}: {reason}")]
    Poisoned {
        /// The projection's name.
        projection: &'static str,
        /// Where the event is.
        position: Position,
        /// Why not.
        reason: String,
    },
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] log::Error),
}

/// How far a projection has come, and in which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log, and the vault by whose keys it was read.
    pub source: SourceId,
    /// The position of the last record taken in.
    pub position: Position,
    /// The leaf hash of the entry there, by which a log that was restored from an older copy and went on differently
    /// is told from this one; zeros at the start.
    pub leaf: Hash,
    /// The version of the projection that made the rows.
    pub version: u32,
    /// The newest erasure of personal text in the log when the rows were begun: of a later one they know too much.
    pub erasure: Position,
}

impl Checkpoint {
    const LEN: usize = 16 + 8 + 32 + 4 + 8;

    /// The checkpoint of rows that were made from `reader`'s log up to `position`.
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

    /// Why rows with this checkpoint cannot be continued from `reader`'s log, if they cannot.
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

/// The position of the newest erasure in the log; the start if there is none.
fn newest_erasure(reader: &dyn LogReader) -> Result<Position, log::Error> {
    Ok(reader.erasures()?.last().map_or(Position::START, |record| record.position))
}

fn leaf_at(reader: &dyn LogReader, position: Position) -> Result<Hash, log::Error> {
    let Some(before) = position.entry_index() else { return Ok([0; 32]) };
    let entries = reader.read_entries(Position::new(before), 1)?;
    Ok(entries.first().map_or([0; 32], |entry| merkle::leaf_hash(entry)))
}

/// Rows to be written in one commit. They go to the file some at a time, so that they need not all be in memory.
pub struct Changes<'a> {
    rows: Rows,
    write: &'a mut dyn FnMut(&Rows) -> Result<(), redb::Error>,
    failed: Option<redb::Error>,
}

/// Rows, one after the other.
#[derive(Default)]
struct Rows {
    bytes: Vec<u8>,
    /// Where each row's key and value end in `bytes`.
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
    /// Adds a row, in place of the one with the same key if there is one. Rows must be added in the order of their
    /// keys. The value is what `write` appends to the buffer.
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

/// The rows as one commit left them, whatever is committed later, and also when another file takes the place of theirs.
/// Cheap to clone. It holds on to space in the file, and to the file, so keep it for the length of a query only.
#[derive(Clone)]
pub struct Snapshot(Arc<SnapshotInner>);

struct SnapshotInner {
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
    checkpoint: Checkpoint,
    file: Arc<str>,
    /// Kept open: pages that are not in memory cannot be read once it is closed.
    _database: Arc<Database>,
}

/// A row: its key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

impl Snapshot {
    /// Opens a file as it is, without comparing it with a log or changing it.
    ///
    /// # Errors
    /// When it is not there, in use, or damaged.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = file_name(path);
        let database = Arc::new(open_database(path).map_err(|error| error.into_error(&file))?);
        snapshot_of(&database, &file).map_err(|reason| Error::Damaged { file: file.to_string(), reason })
    }

    /// How far the rows have come.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.0.checkpoint
    }

    /// What `read` makes of the value of the row with this key, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get<T>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, Error> {
        let row = self.0.rows.get(key).map_err(|error| self.storage_error(&error))?;
        Ok(row.map(|value| read(value.value())))
    }

    /// The rows from the key `from` on, in the order of their keys.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn rows_from(&self, from: &[u8]) -> Result<impl Iterator<Item = Result<Row, Error>> + use<>, Error> {
        let bounds = (Bound::Included(from), Bound::Unbounded);
        let range = self.0.rows.range::<&[u8]>(bounds).map_err(|error| self.storage_error(&error))?;
        let snapshot = self.clone();
        Ok(range.map(move |row| {
            row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec()))
                .map_err(|error| snapshot.storage_error(&error))
        }))
    }

    /// A SHA-256 hash over all rows in the order of their keys: the same for the same rows, however they came about.
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

    /// That a row of this file is not what was written.
    #[must_use]
    pub fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::Damaged { file: self.0.file.to_string(), reason: reason.into() }
    }

    fn storage_error(&self, error: &StorageError) -> Error {
        storage_error(&self.0.file, error)
    }
}

/// The file, open for writing.
pub(crate) struct Store {
    database: Arc<Database>,
    file: Arc<str>,
    /// Of the projection that made the rows.
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
        let database = create().map_err(|error| OpenFailure::of(error).into_error(&file))?;
        Self::initialize(database, file, version, reader)
    }

    /// Rows that live in memory only.
    pub(crate) fn in_memory(version: u32, reader: &dyn LogReader) -> Result<Self, Error> {
        let file: Arc<str> = "memory".into();
        let backend = redb::backends::InMemoryBackend::new();
        let create = Database::builder().set_cache_size(CACHE_LEN).create_with_backend(backend);
        let database = create.map_err(|error| OpenFailure::of(error).into_error(&file))?;
        Self::initialize(database, file, version, reader)
    }

    /// Deletes the file at `path`, if there is one.
    pub(crate) fn delete(path: &Path) -> Result<(), Error> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::Unavailable { file: file_name(path).to_string(), reason: error.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// Opens the file if its rows go on from the log of `reader`, and `reads` their version. The inner error is why not; the outer
    /// one is one that making the file anew does not help against.
    pub(crate) fn open(
        path: &Path,
        reads: impl Fn(u32) -> bool,
        reader: &dyn LogReader,
    ) -> Result<Result<Self, String>, Error> {
        let file = &file_name(path);
        let mut database = match open_database(path) {
            Ok(database) => database,
            Err(OpenFailure::Damaged(reason)) => return Ok(Err(reason)),
            Err(failure) => return Err(failure.into_error(file)),
        };
        // Rows are trusted by every reader from here on, so that a flipped bit must show here and nowhere else.
        match catch_unwind(AssertUnwindSafe(|| database.check_integrity())) {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Ok(Err("its checksums do not match".into())),
            Ok(Err(error)) => return Ok(Err(error.to_string())),
            Err(_) => return Ok(Err("its pages cannot be read".into())),
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

    /// The checkpoint of these rows when the log of `reader` was taken in up to `position`.
    pub(crate) fn checkpoint_at(
        &self,
        reader: &dyn LogReader,
        position: Position,
    ) -> Result<Checkpoint, log::Error> {
        Checkpoint::at(reader, position, self.version, self.erasure)
    }

    /// The version of the projection that made the rows.
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

    /// Writes the rows that `collect` adds, and the checkpoint, in one commit. One that is not durable is lost if the
    /// process ends before the next durable one.
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

    /// Commits what `collect` adds if it says so.
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

    /// The rows as the last commit left them.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, Error> {
        snapshot_of(&self.database, &self.file)
            .map_err(|reason| Error::Unavailable { file: self.file.to_string(), reason })
    }
}

/// Rows of so many bytes, and one more, are inserted as one run: redb holds them until the run ends, and memory of a
/// megabyte would be asked of the system anew each time.
const RUN_LEN_MAX: usize = 64 * 1024;

/// Writes rows into a table whose last key was `last` when the first of them came.
fn write_rows(
    table: &mut Table<'_, &'static [u8], &'static [u8]>,
    last: &[u8],
    rows: &Rows,
) -> Result<(), redb::Error> {
    let mut rows = rows.iter().peekable();
    while let Some((key, value)) = rows.next_if(|(key, _)| *key <= last) {
        table.insert(key, value)?;
    }
    // What comes after the last key goes in as runs, which fill pages instead of splitting them.
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

enum OpenFailure {
    InUse,
    Damaged(String),
    Unavailable(String),
}

impl OpenFailure {
    fn of(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::InUse,
            DatabaseError::Storage(StorageError::Io(error))
                if !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                Self::Unavailable(error.to_string())
            }
            error => Self::Damaged(error.to_string()),
        }
    }

    fn into_error(self, file: &Arc<str>) -> Error {
        let file = file.to_string();
        match self {
            Self::InUse => Error::InUse { file },
            Self::Damaged(reason) => Error::Damaged { file, reason },
            Self::Unavailable(reason) => Error::Unavailable { file, reason },
        }
    }
}

fn open_database(path: &Path) -> Result<Database, OpenFailure> {
    let open = || Database::builder().set_cache_size(CACHE_LEN).open(path);
    match catch_unwind(open) {
        Ok(opened) => opened.map_err(OpenFailure::of),
        Err(_) => Err(OpenFailure::Damaged("it cannot be read".into())),
    }
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

fn storage_error(file: &str, error: &StorageError) -> Error {
    let (file, reason) = (file.to_owned(), error.to_string());
    match error {
        StorageError::Corrupted(_) => Error::Damaged { file, reason },
        _ => Error::Unavailable { file, reason },
    }
}

fn file_name(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

/// The file of the projection called `name` in the directory of projections.
#[must_use]
pub fn path_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.redb"))
}

/// The file in which a projection is made anew beside [its own](path_of).
pub(crate) fn unfinished_path_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.rebuild.redb"))
}
