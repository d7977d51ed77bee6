//! The writing end.

use std::collections::HashMap;
use std::fmt::Display;
use std::iter::repeat_n;
use std::path::Path;
use std::sync::{Arc, RwLock};

use rand::rngs::StdRng;
use rand::{SeedableRng, TryCryptoRng};
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableTable, StorageBackend, StorageError, TableError,
};

use super::commands::{CommandIndex, CommandRows};
use super::database::{
    Contents, Shared, builder, close, create_file, damage, guarded, initialize, one_line, open_database,
    read_contents,
};
use super::journal::{FrameBuilder, Journal, JournalNote, Salt};
use super::reader::{RedbReader, head_of};
use super::recent::RecentRecords;
use super::recovery::{journal_error, take_in_journal};
use super::tables::{Tables, command_row};
use super::{RedbOptions, journal_beside};
use crate::erasure;
use crate::log::merkle::Frontier;
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
    journal: Journal,
    /// Of the journal's frames that count; none when a group has to be committed before there can be any.
    salt: Option<Salt>,
    /// Draws salts.
    rng: StdRng,
    /// The memory of the last frame.
    frame: Vec<u8>,
    commands: CommandRows,
    frontier: Frontier,
    time: Option<Timestamp>,
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
        let (path, journal) = (path.to_path_buf(), journal_beside(path));
        let open_journal = |note: Option<&JournalNote>| {
            let opened = Journal::open_file(&journal, options.journal_bytes, note);
            opened.map_err(|error| journal_error(&journal.display().to_string(), error))
        };
        Self::open_with(file, vault, Box::new(move || builder(options).open(&path)), open_journal, rng)
    }

    /// Opens a log on backends of the caller's making: `backend` is asked for the database's at every opening, `journal` is the
    /// journal's. `file` is the name in messages.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open_with_backend<B: StorageBackend, R: TryCryptoRng>(
        file: &str,
        backend: impl Fn() -> B + Send + 'static,
        journal: impl StorageBackend,
        options: RedbOptions,
        vault: Arc<Vault>,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let open = move || Builder::create_with_backend(&builder(options), backend());
        let database = open_database(file, &open)?;
        let initialized = guarded(|| initialize(file, &database, rng));
        close(database);
        initialized.unwrap_or_else(|panic| Err(Error::Open(damage(file, panic))))?;
        let name = journal_beside(Path::new(file)).display().to_string();
        let open_journal = |note: Option<&JournalNote>| {
            let opened = Journal::open(name.clone(), journal, options.journal_bytes, note);
            opened.map_err(|error| journal_error(&name, error))
        };
        Self::open_with(file.to_owned(), vault, Box::new(open), open_journal, rng)
    }

    fn open_with<R: TryCryptoRng>(
        file: String,
        vault: Arc<Vault>,
        open: Box<dyn Fn() -> Result<Database, DatabaseError> + Send>,
        open_journal: impl FnOnce(Option<&JournalNote>) -> Result<Journal, Error>,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let rng = StdRng::try_from_rng(rng);
        let rng = rng.map_err(|error| Error::Open(one_line(format!("{file}: cannot be opened: {error}"))))?;
        let (store, contents) = read_contents(&file, open_database(&file, &open)?)?;
        // Not before the database, which is locked.
        let mut journal = match open_journal(contents.journal.as_ref()) {
            Ok(journal) => journal,
            Err(error) => {
                close(store);
                return Err(error);
            }
        };
        let (store, contents) = take_in_journal(&file, store, contents, &mut journal, &open)?;
        let Contents { log_id, frontier, time, commands, journal: note } = contents;
        let salt = note.map(|note| note.salt);
        let index = CommandIndex::default();
        index.fill(&commands, time.unwrap_or_default());
        let recent = RecentRecords::default();
        let store = RwLock::new(Some(store));
        let shared = Shared { file, log_id, commands: index, recent, vault, store };
        let shared = Arc::new(shared);
        let log = Self {
            shared,
            open,
            journal,
            salt,
            rng,
            frame: Vec::new(),
            commands,
            frontier,
            time,
            suspended: None,
        };
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

    /// Commits what the journal has to the disk, so that the database alone is the log.
    fn settle(&mut self) -> Result<(), String> {
        let failed = |error: &dyn Display| format!("{}: {error}", self.shared.file);
        let mut transaction = self.shared.begin_write().map_err(|error| failed(&error))?;
        transaction.set_quick_repair(true);
        let mut tables = Tables::open(&transaction).map_err(|error| failed(&error))?;
        tables.set_journal(None).map_err(|error| failed(&error))?;
        drop(tables);
        transaction.commit().map_err(|error| failed(&error))?;
        self.salt = None;
        self.journal.restart();
        Ok(())
    }

    fn append_group(&mut self, group: Vec<Append>) -> Result<Vec<AppendOutcome>, Failure> {
        let subjects = group.iter().map(|append| &append.subject);
        let keys = self.shared.vault.keys_for(subjects).map_err(|error| Failure::Broken(error.into()))?;
        let mut transaction = self.shared.begin_write().map_err(Failure::Broken)?;
        let mut batch = Batch {
            shared: &self.shared,
            frontier: self.frontier.clone(),
            time: self.time,
            commands: HashMap::new(),
            frame: FrameBuilder::new(std::mem::take(&mut self.frame)),
            row: Vec::with_capacity(512),
        };
        let (mut forgotten, mut next_salt) = (0, None);
        let (outcomes, frame) = {
            let mut tables = Tables::open(&transaction).map_err(|error| batch.table_error(error))?;
            let head = tables.head().map_err(|error| batch.broken(error))?;
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
            tables.set_frontier(&batch.frontier).map_err(|error| batch.broken(error))?;
            let frame = std::mem::take(&mut batch.frame);
            let frame = self.salt.map(|salt| frame.finish(&salt, &batch.frontier));
            let frame = frame.filter(|frame| self.journal.has_room(frame.len()));
            if frame.is_none() {
                let salt = Salt::draw(&mut self.rng);
                next_salt = Some(salt);
                tables.set_journal(Some(self.journal.note(salt))).map_err(|error| batch.broken(error))?;
            }
            (outcomes, frame)
        };
        let Batch { frontier, time, commands, .. } = batch;
        let erases = self.withhold(&outcomes);
        let unknown = |file: &str, error: &dyn Display| Failure::Unknown(format!("{file}: {error}"));
        // Opening the file after a crash is quick if the last commit on the disk had what it takes. That is as long as the file
        // is, in proportion: too much for every group, little for what a journal holds.
        transaction.set_quick_repair(frame.is_none());
        if let Some(frame) = frame {
            // On the disk before any reader can see it.
            self.journal.append(&frame).map_err(|error| unknown(&self.journal.file, &error))?;
            self.frame = frame;
            let lowered = transaction.set_durability(Durability::None);
            lowered.map_err(|error| unknown(&self.shared.file, &error))?;
        }
        transaction.commit().map_err(|error| unknown(&self.shared.file, &error))?;
        if next_salt.is_some() {
            // All that the journal had is in the database on the disk.
            self.salt = next_salt;
            self.journal.restart();
        }
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

/// A group on its way into the file: where the log will stand after it.
struct Batch<'a> {
    shared: &'a Shared,
    frontier: Frontier,
    time: Option<Timestamp>,
    commands: HashMap<CommandId, RememberedCommand>,
    /// The group as the journal will have it.
    frame: FrameBuilder,
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
            let row = command_row(key.id, &command);
            tables.commands.insert(first.get(), &row).map_err(|error| self.broken(error))?;
            self.frame.command(first.get(), row);
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
        self.frame.entry(&entry);
        let (frontier, row) = (&mut self.frontier, &mut self.row);
        let inserted = tables.insert_entry(frontier, row, &entry, stream_key, record.version);
        let inserted = inserted.map_err(|error| broken(self.shared, error))?;
        if inserted { Ok(()) } else { Err(self.misplaced(record.position.get())) }
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
        if self.suspended.is_some() || self.salt.is_none() {
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
        let file = &self.shared.file;
        let (store, contents) = read_contents(file, open_database(file, &self.open)?)?;
        if contents.log_id != self.shared.log_id {
            close(store);
            return Err(Error::Open(format!("{file}: is another log than before")));
        }
        let (store, contents) = take_in_journal(file, store, contents, &mut self.journal, &self.open)?;
        self.shared.commands.fill(&contents.commands, contents.time.unwrap_or_default());
        self.commands = contents.commands;
        self.frontier = contents.frontier;
        self.time = contents.time;
        self.salt = contents.journal.map(|note| note.salt);
        self.shared.set_store(Some(store));
        self.shared.vault.recover()?;
        self.finish_erasures()?;
        self.suspended = None;
        Ok(Position::new(self.frontier.size()))
    }
}

/// Leaves the journal empty, if it can.
impl Drop for RedbLog {
    fn drop(&mut self) {
        if self.salt.is_none() {
            return;
        }
        let settled = match self.suspended.take() {
            None => guarded(|| self.settle()).unwrap_or_else(Err),
            Some(reason) => Err(reason),
        };
        if let Err(reason) = settled {
            let journal = &self.journal.file;
            tracing::warn!(
                reason,
                journal,
                "the log's database lacks the newest events; they are in its journal"
            );
        }
    }
}

/// Says nothing of the database.
impl std::fmt::Debug for RedbLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbLog").field("file", &self.shared.file).finish_non_exhaustive()
    }
}
