//! The writing end.

use std::collections::HashMap;
use std::fmt::Display;
use std::iter::repeat_n;
use std::path::Path;
use std::sync::{Arc, RwLock};

use rand::TryCryptoRng;
use redb::{
    Builder, Database, DatabaseError, ReadableTable, StorageBackend, StorageError, Table, TableError,
    WriteTransaction,
};

use super::RedbOptions;
use super::commands::{CommandIndex, CommandRows};
use super::database::{
    Contents, Shared, builder, close, create_file, damage, guarded, initialize, open_database, read_contents,
};
use super::reader::{RedbReader, head_of};
use super::recent::RecentRecords;
use super::tables::{
    COMMAND_ROW_LEN, COMMANDS, ENTRIES, META, META_FRONTIER, STREAMS, TREE, command_row, write_entry_row,
};
use crate::erasure;
use crate::log::merkle::{Frontier, TILE_HEIGHT, leaf_hash};
use crate::log::{
    Append, AppendOutcome, CommandId, Error, EventLog, LogReader, RememberedCommand, StreamHead,
};
use crate::position::{Position, Version};
use crate::record::{self, Personal, Record};
use crate::time::Timestamp;
use crate::vault::{SubjectKey, Vault};

/// How many rows of commands an append may remove beyond those it adds: more than one for each, so that the table
/// shrinks again after a busy day, and few, so that no append waits for it.
const COMMANDS_FORGOTTEN_MAX: usize = 8;

/// The log on redb: the one writing end of its file.
pub struct RedbLog {
    shared: Arc<Shared>,
    open: Box<dyn Fn() -> Result<Database, DatabaseError> + Send>,
    commands: CommandRows,
    frontier: Frontier,
    time: Option<Timestamp>,
    /// Whether the last commit left what makes opening the file after a crash fast.
    quick_to_open: bool,
    /// Why nothing can be appended before [`EventLog::recover`].
    suspended: Option<String>,
}

/// Why a group was not appended.
enum Failure {
    /// It cannot be stored; others can.
    Refused(record::Error),
    /// It was not appended, and no other can be.
    Broken(Error),
    /// It may have been appended.
    Unknown(String),
}

impl RedbLog {
    /// Opens the log in the file at `path`; makes it, with an id drawn from `rng`, if it is not there. Keys of the vault that
    /// erasures in the log name are destroyed.
    ///
    /// # Errors
    /// [`Error::Open`], one line for whoever runs the service.
    pub fn open<R: TryCryptoRng>(
        path: &Path,
        options: RedbOptions,
        vault: Arc<Vault>,
        rng: &mut R,
    ) -> Result<Self, Error> {
        create_file(path, options, rng)?;
        let file = path.display().to_string();
        let path = path.to_path_buf();
        Self::open_with(file, vault, Box::new(move || builder(options).open(&path)))
    }

    /// Opens a log on backends of the caller's making; `backend` is asked for one at every opening. `file` is the name
    /// in messages.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open_with_backend<B: StorageBackend, R: TryCryptoRng>(
        file: &str,
        backend: impl Fn() -> B + Send + 'static,
        options: RedbOptions,
        vault: Arc<Vault>,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let open = move || Builder::create_with_backend(&builder(options), backend());
        let database = open_database(file, &open)?;
        let initialized = guarded(|| initialize(file, &database, rng));
        close(database);
        initialized.unwrap_or_else(|panic| Err(Error::Open(damage(file, panic))))?;
        Self::open_with(file.to_owned(), vault, Box::new(open))
    }

    fn open_with(
        file: String,
        vault: Arc<Vault>,
        open: Box<dyn Fn() -> Result<Database, DatabaseError> + Send>,
    ) -> Result<Self, Error> {
        let store = open_database(&file, &open)?;
        let (store, contents) = read_contents(&file, store)?;
        let Contents { log_id, frontier, time, commands } = contents;
        let index = CommandIndex::default();
        index.fill(&commands, time.unwrap_or_default());
        let recent = RecentRecords::default();
        let store = RwLock::new(Some(store));
        let shared = Shared { file, log_id, commands: index, recent, vault, store };
        let shared = Arc::new(shared);
        let log = Self { shared, open, commands, frontier, time, quick_to_open: false, suspended: None };
        log.finish_erasures()?;
        Ok(log)
    }

    /// Destroys the keys that erasures in the log name and that are there still: a crash came between, or the vault is an
    /// older one than the log.
    fn finish_erasures(&self) -> Result<(), Error> {
        self.redb_reader().withhold_erased_keys()?;
        let destroyed = self.shared.vault.destroy_withheld()?;
        if destroyed > 0 {
            tracing::warn!(destroyed, "destroyed keys of personal text that the log says were erased");
        }
        Ok(())
    }

    /// Lets nobody have the keys any more that erasures of a group name, and says whether there are any: whoever reads the
    /// group must find them gone.
    fn withhold(&self, outcomes: &[AppendOutcome]) -> bool {
        let mut erases = false;
        for outcome in outcomes {
            let AppendOutcome::Appended { records, .. } = outcome else { continue };
            for record in records {
                let keys = erasure::destroyed_keys(&record.event);
                erases |= !keys.is_empty();
                self.shared.vault.withhold(keys);
            }
        }
        if erases {
            self.shared.recent.clear();
        }
        erases
    }

    /// A reading end with what only this log offers.
    #[must_use]
    pub fn redb_reader(&self) -> RedbReader {
        RedbReader { shared: self.shared.clone() }
    }

    /// Commits nothing new, but with what makes opening after a crash fast. That is as long as the file is, in proportion, and
    /// only counts if it is in the last commit: with every group it would slow down each the more the more events there are.
    fn settle(&mut self) -> Result<(), String> {
        let failed = |error: &dyn Display| format!("{}: {error}", self.shared.file);
        let mut transaction = self.shared.begin_write().map_err(|error| failed(&error))?;
        transaction.set_quick_repair(true);
        transaction
            .open_table(META)
            .map_err(|error| failed(&error))?
            .insert(META_FRONTIER, self.frontier.to_bytes().as_slice())
            .map_err(|error| failed(&error))?;
        transaction.commit().map_err(|error| failed(&error))?;
        self.quick_to_open = true;
        Ok(())
    }

    fn append_group(&mut self, group: Vec<Append>) -> Result<Vec<AppendOutcome>, Failure> {
        let subjects = group.iter().map(|append| &append.subject);
        let keys = self.shared.vault.keys_for(subjects).map_err(|error| Failure::Broken(error.into()))?;
        let transaction = self.shared.begin_write().map_err(Failure::Broken)?;
        let mut batch = Batch {
            shared: &self.shared,
            frontier: self.frontier.clone(),
            time: self.time,
            commands: HashMap::new(),
            row: Vec::with_capacity(512),
        };
        let mut forgotten = 0;
        let outcomes = {
            let mut tables = Tables::open(&transaction).map_err(|error| batch.table_error(error))?;
            let head = tables.entries.last().map_err(|error| batch.broken(error))?;
            let head = head.map_or(0, |(position, _)| position.value());
            if head != batch.frontier.size() {
                return Err(batch.misplaced(head));
            }
            let rows_max = group.len() + COMMANDS_FORGOTTEN_MAX;
            let outcomes = group
                .into_iter()
                .zip(&keys)
                .map(|(append, key)| batch.append(&mut tables, append, key))
                .collect::<Result<Vec<_>, _>>()?;
            if batch.frontier.size() == head {
                return Ok(outcomes);
            }
            for row in batch.time.into_iter().flat_map(|time| self.commands.old(time, rows_max)) {
                tables.commands.remove(row.first.get()).map_err(|error| batch.broken(error))?;
                forgotten += 1;
            }
            let frontier = batch.frontier.to_bytes();
            tables.meta.insert(META_FRONTIER, frontier.as_slice()).map_err(|error| batch.broken(error))?;
            outcomes
        };
        let Batch { frontier, time, commands, .. } = batch;
        let erases = self.withhold(&outcomes);
        self.quick_to_open = false;
        transaction.commit().map_err(|error| Failure::Unknown(format!("{}: {error}", self.shared.file)))?;
        self.frontier = frontier;
        self.time = time;
        let mut added: Vec<_> = commands.into_iter().collect();
        added.sort_unstable_by_key(|(_, command)| command.first);
        if forgotten > 0 || !added.is_empty() {
            let removed = self.commands.rows.drain(..forgotten);
            self.shared.commands.replace(removed, added.iter().copied());
            self.commands.rows.extend(added);
        }
        if erases {
            self.shared.vault.destroy_withheld().map_err(|error| Failure::Unknown(error.to_string()))?;
        }
        Ok(outcomes)
    }
}

/// The tables of one write transaction.
struct Tables<'t> {
    entries: Table<'t, u64, &'static [u8]>,
    streams: Table<'t, (&'static [u8], u32), u64>,
    commands: Table<'t, u64, &'static [u8; COMMAND_ROW_LEN]>,
    tree: Table<'t, (u8, u64), &'static [u8; 32]>,
    meta: Table<'t, &'static str, &'static [u8]>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            entries: transaction.open_table(ENTRIES)?,
            streams: transaction.open_table(STREAMS)?,
            commands: transaction.open_table(COMMANDS)?,
            tree: transaction.open_table(TREE)?,
            meta: transaction.open_table(META)?,
        })
    }
}

/// A group on its way into the file: where the log will stand after it.
struct Batch<'a> {
    shared: &'a Shared,
    frontier: Frontier,
    time: Option<Timestamp>,
    commands: HashMap<CommandId, RememberedCommand>,
    /// Reused for every row of entries.
    row: Vec<u8>,
}

impl Batch<'_> {
    fn append(
        &mut self,
        tables: &mut Tables<'_>,
        append: Append,
        key: &SubjectKey,
    ) -> Result<AppendOutcome, Failure> {
        if let Some(key) = append.command {
            let known = self.commands.get(&key.id).copied().or_else(|| self.shared.commands.find(&key.id));
            if let Some(known) = known {
                return Ok(if known.fingerprint == key.fingerprint {
                    AppendOutcome::Replayed(known)
                } else {
                    AppendOutcome::CommandReused
                });
            }
        }
        let stream_key = append.stream.to_index_key();
        if append.events.is_empty() || !self.stands_at(tables, &stream_key, append.expected)? {
            return Ok(AppendOutcome::Conflict);
        }
        let time = append.time.max(self.time.unwrap_or(append.time));
        let first = self.position();
        let mut version = append.expected.version;
        let count = append.events.len();
        let mut records = Vec::with_capacity(count);
        let envelopes =
            repeat_n((append.stream, append.organization_id, append.actor, append.request_id), count);
        for ((id, event), envelope) in append.events.into_iter().zip(envelopes) {
            let (stream, organization_id, actor, request_id) = envelope;
            version = version.next();
            let position = self.position();
            let causation = append.causation;
            let record = Record {
                position,
                id,
                time,
                stream,
                version,
                organization_id,
                actor,
                request_id,
                causation,
                event,
                personal: Personal::Readable,
            };
            self.store(tables, &stream_key, &record, key)?;
            records.push(record);
        }
        self.time = Some(time);
        if let Some(key) = append.command {
            let last = records.last().map_or(first, |record| record.position);
            let command = RememberedCommand { fingerprint: key.fingerprint, first, last, time };
            tables
                .commands
                .insert(first.get(), &command_row(key.id, &command))
                .map_err(|error| self.broken(error))?;
            self.commands.insert(key.id, command);
        }
        Ok(AppendOutcome::Appended { records, head: head_of(version) })
    }

    /// The position of the next record.
    fn position(&self) -> Position {
        Position::new(self.frontier.size()).next()
    }

    /// Whether the stream's last event is the one that `expected` tells of.
    fn stands_at(
        &self,
        tables: &Tables<'_>,
        stream_key: &[u8],
        expected: StreamHead,
    ) -> Result<bool, Failure> {
        if expected != head_of(expected.version) {
            return Ok(false);
        }
        let has = |version: Version| match tables.streams.get((stream_key, version.get())) {
            Ok(row) => Ok(row.is_some()),
            Err(error) => Err(self.broken(error)),
        };
        Ok(!has(expected.version.next())? && (expected.version == Version::NONE || has(expected.version)?))
    }

    fn store(
        &mut self,
        tables: &mut Tables<'_>,
        stream_key: &[u8],
        record: &Record,
        key: &SubjectKey,
    ) -> Result<(), Failure> {
        let entry = record::encode_with(record, Some(key)).map_err(Failure::Refused)?;
        let position = record.position.get();
        write_entry_row(&mut self.row, &entry);
        let before = tables.entries.insert(position, self.row.as_slice());
        let taken = before.map_err(|error| broken(self.shared, error))?.is_some();
        let before = tables.streams.insert((stream_key, record.version.get()), position);
        let taken = before.map_err(|error| broken(self.shared, error))?.is_some() || taken;
        if taken {
            return Err(self.misplaced(position));
        }
        let mut completed = None;
        self.frontier.append(leaf_hash(&entry), |level, index, hash| {
            if level > 0 && level % TILE_HEIGHT == 0 {
                let stored = tables.tree.insert((level, index), hash).map(drop);
                completed = completed.take().or(stored.err());
            }
        });
        completed.map_or(Ok(()), |error| Err(self.broken(error)))
    }

    fn misplaced(&self, position: u64) -> Failure {
        let position = Position::new(position);
        Failure::Broken(self.shared.damaged(position, "the log does not stand where its writer left it"))
    }

    fn broken(&self, error: StorageError) -> Failure {
        broken(self.shared, error)
    }

    fn table_error(&self, error: TableError) -> Failure {
        Failure::Broken(self.shared.table_error(self.position(), error))
    }
}

fn broken(shared: &Shared, error: StorageError) -> Failure {
    Failure::Broken(shared.read_error(Position::START, error))
}

impl EventLog for RedbLog {
    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(self.redb_reader())
    }

    fn vault(&self) -> Arc<Vault> {
        Arc::clone(&self.shared.vault)
    }

    fn append(&mut self, group: Vec<Append>) -> Result<Vec<AppendOutcome>, Error> {
        if let Some(reason) = &self.suspended {
            return Err(Error::Unavailable(reason.clone()));
        }
        let failure = match guarded(|| self.append_group(group)) {
            Ok(Ok(outcomes)) => return Ok(outcomes),
            Ok(Err(failure)) => failure,
            // It may have come after the commit.
            Err(panic) => Failure::Unknown(panic),
        };
        match failure {
            Failure::Refused(error) => Err(Error::Record(error)),
            Failure::Broken(error) => {
                self.suspended = Some(error.to_string());
                Err(error)
            }
            Failure::Unknown(reason) => {
                self.suspended = Some(format!("the outcome of an earlier append is not known: {reason}"));
                Err(Error::OutcomeUnknown(reason))
            }
        }
    }

    fn told(&mut self, records: Vec<Record>) {
        if self.suspended.is_none() {
            self.shared.recent.add(records);
        }
    }

    fn rest(&mut self) -> Result<(), Error> {
        if self.suspended.is_some() || self.quick_to_open {
            return Ok(());
        }
        let settled = guarded(|| self.settle()).unwrap_or_else(Err);
        settled.map_err(|reason| {
            self.suspended = Some(format!("the outcome of an earlier commit is not known: {reason}"));
            Error::OutcomeUnknown(reason)
        })
    }

    fn recover(&mut self) -> Result<Position, Error> {
        self.shared.recent.clear();
        self.suspended = Some(format!("{}: not open", self.shared.file));
        // Dropped before the file is opened again: it is locked until then.
        close(self.shared.set_store(None));
        let store = open_database(&self.shared.file, &self.open)?;
        let (store, contents) = read_contents(&self.shared.file, store)?;
        if contents.log_id != self.shared.log_id {
            close(store);
            return Err(Error::Open(format!("{}: is another log than before", self.shared.file)));
        }
        self.shared.commands.fill(&contents.commands, contents.time.unwrap_or_default());
        self.commands = contents.commands;
        self.frontier = contents.frontier;
        self.time = contents.time;
        self.shared.set_store(Some(store));
        self.quick_to_open = false;
        self.shared.vault.recover()?;
        self.finish_erasures()?;
        self.suspended = None;
        Ok(Position::new(self.frontier.size()))
    }
}

/// Says nothing of the database.
impl std::fmt::Debug for RedbLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbLog").field("file", &self.shared.file).finish_non_exhaustive()
    }
}
