//! A log built from the entries of another one. The entries are copied byte for byte; everything derived from
//! them is rebuilt.

use std::path::{Path, PathBuf};

use redb::{Database, ReadableTable, StorageError, TableError, WriteTransaction};

use super::RedbOptions;
use super::database::{builder, make_log, open_database};
use super::journal::segment::Segment;
use super::tables::{COMMANDS, Tables, command_row};
use crate::log::merkle::Frontier;
use crate::log::{CommandId, Entry, Error, LogId, RememberedCommand};
use crate::storage::redb_file::{close, guarded, one_line};
use crate::storage::storage_panic::in_file;
use crate::value::position::Position;
use crate::value::time::Timestamp;

/// Number of entries per commit. Uncommitted changes are held in memory.
const COMMIT_LEN: u64 = 16_384;

/// Log file that is being filled with the entries of another log. Until [`finish`](Self::finish) returns it
/// is not a log, and may or may not contain what was added.
pub struct RedbImport {
    file: String,
    path: PathBuf,
    database: Option<Database>,
    transaction: Option<WriteTransaction>,
    frontier: Frontier,
    committed: u64,
    time: Option<Timestamp>,
}

impl RedbImport {
    /// Creates the file at `path`, which must not exist, for the log with this id.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn create(path: &Path, options: RedbOptions, log_id: LogId) -> Result<Self, Error> {
        let file = path.display().to_string();
        if path.exists() {
            return Err(Error::Open(format!("{file}: already exists; name another file")));
        }
        let _file = in_file(&file);
        let database = open_database(&file, || builder(options).create(path))?;
        make_log(&file, &database, log_id)?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
            database: Some(database),
            transaction: None,
            frontier: Frontier::default(),
            committed: 0,
            time: None,
        })
    }

    /// Appends entries at the positions that their records state.
    ///
    /// # Errors
    /// [`Error::Damaged`] when an entry is not the next one, is earlier than the previous one, or is not the
    /// next one of its stream; [`Error::Unavailable`] when the file cannot be written. Nothing can be added
    /// after an error.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let _file = in_file(&self.file);
        let added = guarded(|| self.try_append(entries));
        added.unwrap_or_else(|panic| Err(self.unavailable(panic)))
    }

    fn try_append(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let transaction = self.take_transaction()?;
        let mut segment = Segment::after(self.frontier.clone());
        let mut last = self.time;
        {
            let mut tables = Tables::open(&transaction).map_err(|error| self.table_error(error))?;
            for Entry { bytes, record } in entries {
                let position = Position::new(segment.frontier().size()).next();
                let damaged = |reason: String| self.damaged(position, reason);
                let failed = |error: StorageError| self.unavailable(error);
                if record.position != position {
                    return Err(damaged(format!("holds the record of position {}", record.position)));
                }
                if let Some(time) = last.filter(|time| record.time < *time) {
                    let time = format!("its time {} is before the previous record's, {time}", record.time);
                    return Err(damaged(time));
                }
                let (key, version) = (record.stream.to_index_key(), record.version.get());
                let has = |version: u32| {
                    let row = tables.streams.get((key.as_slice(), version)).map_err(failed)?;
                    Ok::<_, Error>(row.is_some())
                };
                let follows = segment.version_of(&key).is_some()
                    || (version == 1 || has(version.saturating_sub(1))?) && !has(version)?;
                if !follows || !segment.push(bytes.clone(), &key, record.version) {
                    return Err(damaged("its version is not the next one of its stream".into()));
                }
                last = Some(record.time);
            }
            if !tables.insert(&segment).map_err(|error| self.unavailable(error))? {
                let first = Position::new(segment.before()).next();
                return Err(self.damaged(first, "the file already has an entry there".into()));
            }
        }
        (self.frontier, self.time) = (segment.into_frontier(), last);
        self.transaction = Some(transaction);
        if self.frontier.size() - self.committed >= COMMIT_LEN { self.commit() } else { Ok(()) }
    }

    /// Adds commands that the log shall remember. Their events must have been appended.
    ///
    /// # Errors
    /// As [`append`](Self::append). A command whose events are missing is damage.
    pub fn remember(&mut self, commands: &[(CommandId, RememberedCommand)]) -> Result<(), Error> {
        let _file = in_file(&self.file);
        let added = guarded(|| {
            let transaction = self.take_transaction()?;
            {
                let mut table = transaction.open_table(COMMANDS).map_err(|error| self.table_error(error))?;
                for (id, command) in commands {
                    let sound = Position::START < command.first && command.first <= command.last;
                    if !sound || command.last.get() > self.frontier.size() {
                        let reason = "the command that begins here has an impossible last position";
                        return Err(self.damaged(command.first, reason.into()));
                    }
                    let row = command_row(*id, command);
                    table.insert(command.first.get(), &row).map_err(|error| self.unavailable(error))?;
                }
            }
            self.transaction = Some(transaction);
            Ok(())
        });
        added.unwrap_or_else(|panic| Err(self.unavailable(panic)))
    }

    /// Completes the file, which is a log from then on and durable. Returns the right edge of its tree.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub fn finish(mut self) -> Result<Frontier, Error> {
        let _file = in_file(&self.file);
        let finished = guarded(|| {
            self.commit()?;
            close(self.database.take());
            let synced = std::fs::File::open(&self.path).and_then(|file| file.sync_all());
            synced.map_err(|error| self.unavailable(error))
        });
        finished.unwrap_or_else(|panic| Err(self.unavailable(panic)))?;
        Ok(std::mem::take(&mut self.frontier))
    }

    fn take_transaction(&mut self) -> Result<WriteTransaction, Error> {
        if let Some(transaction) = self.transaction.take() {
            return Ok(transaction);
        }
        let database = self.database.as_ref().ok_or_else(|| self.unavailable("it is closed"))?;
        let mut transaction = database.begin_write().map_err(|error| self.unavailable(error))?;
        transaction.set_two_phase_commit(true);
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    fn commit(&mut self) -> Result<(), Error> {
        let transaction = self.take_transaction()?;
        {
            let mut tables = Tables::open(&transaction).map_err(|error| self.table_error(error))?;
            tables.set_frontier(&self.frontier).map_err(|error| self.unavailable(error))?;
        }
        transaction.commit().map_err(|error| self.unavailable(error))?;
        self.committed = self.frontier.size();
        Ok(())
    }

    fn damaged(&self, position: Position, reason: String) -> Error {
        Error::Damaged { file: self.file.clone(), position, reason }
    }

    fn table_error(&self, error: TableError) -> Error {
        self.unavailable(error)
    }

    fn unavailable(&self, error: impl std::fmt::Display) -> Error {
        Error::Unavailable(one_line(format!("{}: {error}", self.file)))
    }
}

/// Omits the database.
impl std::fmt::Debug for RedbImport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbImport").field("file", &self.file).finish_non_exhaustive()
    }
}
