//! Opening and creating the log's file, and what goes wrong with it, in words.

use std::fmt::Display;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rand::TryCryptoRng;
use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageError,
    TableError, TableHandle, WriteTransaction,
};

use super::RedbOptions;
use super::idempotency::{CommandIndex, CommandRows};
use super::journal::file::JournalNote;
use super::journal::pending::Pending;
use super::recent::RecentRecords;
use super::tables::{
    COMMANDS, ENTRIES, FORMAT, META, META_FORMAT, META_FRONTIER, META_JOURNAL, META_LOG_ID, STREAMS, TREE,
    read_command_row, read_entry_row,
};
use crate::codec;
use crate::log::merkle::Frontier;
use crate::log::{Error, LogId};
use crate::storage::atomic_file;
use crate::storage::overlay::Overlay;
use crate::storage::redb_file::{self, Failure, FileKind, close, guarded, one_line};
use crate::storage::storage_panic::in_file;
use crate::value::position::Position;
use crate::value::time::Timestamp;
use crate::vault::Vault;

/// The log's file, for messages.
const FILE_KIND: FileKind = FileKind { noun: "event log", repair: "restore it from a backup" };

/// State shared by the writer and all readers.
pub(super) struct Shared {
    /// Name of the file, for messages.
    pub(super) file: String,
    pub(super) log_id: LogId,
    pub(super) commands: CommandIndex,
    pub(super) pending: Pending,
    pub(super) recent: RecentRecords,
    /// Seals and opens personal parts.
    pub(super) vault: Arc<Vault>,
    /// Whether the database has failed to read or write since it was opened. It accepts no writes then.
    pub(super) failed: AtomicBool,
    /// `None` while the database is being reopened. Closing it ends running read transactions.
    pub(super) store: RwLock<Option<Database>>,
    /// Where the database writes, if not to its file.
    pub(super) overlay: Option<Overlay>,
}

impl Shared {
    /// # Errors
    /// [`Error::Unavailable`] while the database is being reopened.
    pub(super) fn is_open(&self) -> Result<(), Error> {
        self.with_store(|_| ())
    }

    /// Records that the database accepts no writes until it is reopened.
    pub(super) fn set_failed(&self) {
        self.failed.store(true, Ordering::Release);
    }

    fn with_store<T>(&self, f: impl FnOnce(&Database) -> T) -> Result<T, Error> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        let reopening = || Error::Unavailable(format!("{}: being opened again", self.file));
        store.as_ref().map(f).ok_or_else(reopening)
    }

    pub(super) fn begin_read(&self) -> Result<ReadTransaction, Error> {
        self.with_store(Database::begin_read)?.map_err(|error| {
            self.set_failed();
            self.unavailable(error)
        })
    }

    pub(super) fn begin_write(&self) -> Result<WriteTransaction, Error> {
        let transaction = self.with_store(Database::begin_write)?;
        let mut transaction = transaction.map_err(|error| {
            self.set_failed();
            self.unavailable(error)
        })?;
        // Clients choose names and descriptions, and redb's checksums alone do not withstand an attacker who
        // chooses what is stored. A two-phase commit does not rely on them.
        transaction.set_two_phase_commit(true);
        Ok(transaction)
    }

    pub(super) fn set_store(&self, store: Option<Database>) -> Option<Database> {
        std::mem::replace(&mut *self.store.write().unwrap_or_else(PoisonError::into_inner), store)
    }

    pub(super) fn unavailable(&self, error: impl Display) -> Error {
        Error::Unavailable(one_line(format!("{}: {error}", self.file)))
    }

    pub(super) fn damaged(&self, position: Position, reason: impl Display) -> Error {
        Error::Damaged { file: self.file.clone(), position, reason: one_line(reason) }
    }

    /// Error of reading what is stored at `position`, or on the way to it.
    pub(super) fn read_error(&self, position: Position, error: StorageError) -> Error {
        match error {
            StorageError::Corrupted(reason) => self.damaged(position, reason),
            error => {
                self.set_failed();
                self.unavailable(error)
            }
        }
    }

    /// Error of opening a table on the way to `position`.
    pub(super) fn table_error(&self, position: Position, error: TableError) -> Error {
        match error {
            TableError::Storage(error) => self.read_error(position, error),
            error => self.damaged(position, error),
        }
    }
}

/// Closing a damaged database may panic; dropping a log must not.
impl Drop for Shared {
    fn drop(&mut self) {
        let _file = in_file(&self.file);
        let store = self.set_store(None);
        match &self.overlay {
            Some(overlay) => overlay.leave(store),
            None => close(store),
        }
    }
}

/// Contents of the file that the writer needs, as of its head.
pub(super) struct Contents {
    pub(super) log_id: LogId,
    pub(super) frontier: Frontier,
    pub(super) time: Option<Timestamp>,
    pub(super) commands: CommandRows,
    /// Which frames of the journal count; `None` when none do.
    pub(super) journal: Option<JournalNote>,
}

pub(super) fn builder(options: RedbOptions) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_bytes);
    builder.set_repair_callback(|repair| {
        tracing::info!("the log was not closed; looking through it: {:.0} %", repair.progress() * 100.0);
    });
    builder
}

/// Creates the file if it is missing, under a temporary name until it is complete, so that a crash leaves no
/// partial file.
pub(super) fn create_file<R: TryCryptoRng>(
    path: &Path,
    options: RedbOptions,
    rng: &mut R,
) -> Result<(), Error> {
    let file = path.display().to_string();
    let directory = atomic_file::directory_of(path);
    if !directory.is_dir() {
        let directory = directory.display();
        return Err(Error::Open(format!(
            "{file}: the directory {directory} is missing; create it, or name another"
        )));
    }
    if path.exists() {
        return Ok(());
    }
    let unfinished = atomic_file::unfinished(path);
    let create = || builder(options).create(&unfinished);
    let database = match redb_file::open(&file, create) {
        Err(Failure::NotADatabase) => {
            // Left by a crashed attempt; it never held data.
            atomic_file::remove(&unfinished).map_err(|error| open_error(&file, error))?;
            open_database(&file, create)?
        }
        opened => opened.map_err(|failure| open_error(&file, failure))?,
    };
    let initialized = initialize(&file, &database, rng);
    close(database);
    initialized?;
    match atomic_file::rename(&unfinished, path) {
        // Another process was faster.
        Err(_) if path.exists() => Ok(()),
        renamed => renamed.map_err(|error| open_error(&file, error)),
    }
}

/// Opens a database with `open`.
pub(super) fn open_database<D>(
    file: &str,
    open: impl FnOnce() -> Result<D, DatabaseError>,
) -> Result<D, Error> {
    redb_file::open(file, open).map_err(|failure| open_error(file, failure))
}

pub(super) fn damage(file: &str, reason: impl Display) -> Error {
    open_error(file, Failure::Damaged(reason.to_string()))
}

pub(super) fn open_error(file: &str, failure: impl Into<Failure>) -> Error {
    let failure = failure.into();
    let message = failure.message(file, FILE_KIND);
    if failure.is_damage() { Error::DamagedFile(message) } else { Error::Open(message) }
}

/// Initializes an empty database as a log; leaves any other unchanged.
pub(super) fn initialize<R: TryCryptoRng>(file: &str, database: &Database, rng: &mut R) -> Result<(), Error> {
    let failed = |error: &dyn Display| Error::Open(one_line(format!("{file}: cannot be created: {error}")));
    let transaction = database.begin_read().map_err(|error| failed(&error))?;
    if transaction.list_tables().map_err(|error| failed(&error))?.next().is_some() {
        return Ok(());
    }
    drop(transaction);
    let mut log_id = [0; 16];
    rng.try_fill_bytes(&mut log_id).map_err(|error| failed(&error))?;
    make_log(file, database, LogId(log_id))
}

/// Initializes an empty database as the empty log with this id.
pub(super) fn make_log(file: &str, database: &Database, log_id: LogId) -> Result<(), Error> {
    let failed = |error: &dyn Display| Error::Open(one_line(format!("{file}: cannot be created: {error}")));
    let mut transaction = database.begin_write().map_err(|error| failed(&error))?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    let write = || -> Result<(), TableError> {
        transaction.open_table(ENTRIES)?;
        transaction.open_table(STREAMS)?;
        transaction.open_table(COMMANDS)?;
        transaction.open_table(TREE)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT.to_be_bytes().as_slice())?;
        meta.insert(META_LOG_ID, log_id.0.as_slice())?;
        meta.insert(META_FRONTIER, Frontier::default().to_bytes().as_slice())?;
        Ok(())
    };
    write().map_err(|error| failed(&error))?;
    transaction.commit().map_err(|error| failed(&error))
}

/// Reads what the writer must know, and checks that the file is a log at all and one of a known format.
pub(super) fn read_contents(file: &str, store: Database) -> Result<(Database, Contents), Error> {
    let contents = guarded(|| try_read_contents(file, &store));
    match contents.unwrap_or_else(|panic| Err(damage(file, panic))) {
        Ok(contents) => Ok((store, contents)),
        Err(error) => {
            close(store);
            Err(error)
        }
    }
}

fn try_read_contents(file: &str, database: &Database) -> Result<Contents, Error> {
    let transaction = database.begin_read().map_err(|error| damage(file, error))?;
    let damaged = |error: &dyn Display| damage(file, error);
    let not_a_log = || open_error(file, Failure::NotADatabase);
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::Storage(error)) => return Err(damaged(&error)),
        Err(_) => return Err(not_a_log()),
    };
    let row = |name| meta.get(name).map_err(|error| damaged(&error));
    let format = row(META_FORMAT)?.and_then(|row| row.value().try_into().ok()).map(u32::from_be_bytes);
    match format {
        None => return Err(not_a_log()),
        Some(format) if format > FORMAT => {
            return Err(Error::Open(format!(
                "{file}: written by a newer version (format {format}, this version knows {FORMAT}); use that version"
            )));
        }
        Some(1..=FORMAT) => {}
        Some(format) => return Err(damaged(&format!("there is no format {format}"))),
    }
    let log_id = row(META_LOG_ID)?.and_then(|row| row.value().try_into().ok());
    let log_id = LogId(log_id.ok_or_else(|| damaged(&"the log's id is missing"))?);
    let frontier = row(META_FRONTIER)?.and_then(|row| Frontier::from_bytes(row.value()));
    let frontier = frontier.ok_or_else(|| damaged(&"the Merkle tree's right edge is missing"))?;
    let journal = match row(META_JOURNAL)? {
        None => None,
        Some(note) => {
            let note = JournalNote::from_bytes(note.value());
            Some(note.ok_or_else(|| damaged(&"its note on the journal cannot be read"))?)
        }
    };

    for name in [STREAMS.name(), TREE.name()] {
        let mut tables = transaction.list_tables().map_err(|error| damaged(&error))?;
        if !tables.any(|table| table.name() == name) {
            return Err(damaged(&format!("the table {name} is missing")));
        }
    }
    let entries = transaction.open_table(ENTRIES).map_err(|error| damaged(&error))?;
    let last = entries.last().map_err(|error| damaged(&error))?;
    let head = last.as_ref().map_or(0, |(position, _)| position.value());
    if head != frontier.size() {
        let size = frontier.size();
        return Err(damaged(&format!(
            "its last record is at position {head}, its Merkle tree has {size} entries"
        )));
    }
    let time = match last {
        None => None,
        Some((_, row)) => {
            let entry = read_entry_row(row.value());
            let entry = entry.ok_or_else(|| damaged(&format!("wrong checksum at position {head}")))?;
            let record = codec::decode(entry).map_err(|error| {
                Error::Open(one_line(format!("{file}: cannot read the record at position {head}: {error}")))
            })?;
            Some(record.time)
        }
    };

    let mut commands = CommandRows::default();
    let table = transaction.open_table(COMMANDS).map_err(|error| damaged(&error))?;
    for row in table.iter().map_err(|error| damaged(&error))? {
        let (first, row) = row.map_err(|error| damaged(&error))?;
        commands.rows.extend(read_command_row(first.value(), row.value()));
    }
    Ok(Contents { log_id, frontier, time, commands, journal })
}
