//! The writing end.

use std::collections::HashMap;
use std::iter::repeat_n;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use rand::rngs::StdRng;
use rand::{SeedableRng, TryCryptoRng};
use redb::{Builder, Database, DatabaseError, ReadOnlyTable, StorageBackend};

use super::database::{
    Contents, Shared, builder, create_file, damage, initialize, open_database, read_contents,
};
use super::idempotency::{CommandIndex, CommandRows};
use super::journal::checkpointing::{NotSettled, Settler, settle};
use super::journal::file::{Journal, JournalNote, Room};
use super::journal::frame::{FinishedFrame, FrameBuilder};
use super::journal::pending::{Segments, Staged};
use super::journal::recovery::{journal_error, take_in_journal};
use super::journal::segment::Segment;
use super::reader::{RedbReader, head_of};
use super::recent::RecentRecords;
use super::tables::{STREAMS, command_row};
use super::{RedbOptions, journal_beside};
use crate::codec;
use crate::domain::erasure;
use crate::domain::record::{Personal, Record};
use crate::log::{
    Append, AppendOutcome, CommandId, Error, EventLog, LogReader, RememberedCommand, StreamHead,
};
use crate::storage::redb_file::{close, guarded, one_line};
use crate::storage::storage_panic::in_file;
use crate::value::position::{Position, Version};
use crate::value::time::Timestamp;
use crate::vault::{SubjectKey, Vault};

/// How many rows of commands an append may remove beyond those it adds: more than one for each, so that the table
/// shrinks again after a busy day, and few, so that no append waits for it.
const COMMANDS_FORGOTTEN_MAX: usize = 8;

/// The log on redb: the one writing end of its file.
pub struct RedbLog {
    shared: Arc<Shared>,
    open: Box<dyn Fn() -> Result<Database, DatabaseError> + Send>,
    journal: Journal,
    /// What goes into the database beside.
    settler: Settler,
    /// Draws the salts of the journal.
    rng: StdRng,
    /// The memory of the last frame.
    frame: Vec<u8>,
    commands: CommandRows,
    time: Option<Timestamp>,
    /// Why nothing can be appended before [`EventLog::recover`].
    suspended: Option<String>,
}

/// Why a group was not appended.
enum Failure {
    /// It cannot be stored; others can.
    Refused(codec::Error),
    /// It was not appended, and no other can be.
    Broken(Error),
    /// It may have been appended.
    Unknown(String),
}

impl Failure {
    /// Of a group that waited for something else to be committed, which was not: nothing was done for the group.
    fn of_another(error: NotSettled) -> Self {
        Self::Broken(error.into_error())
    }
}

impl From<NotSettled> for Failure {
    fn from(error: NotSettled) -> Self {
        match error {
            NotSettled::Refused(error) => Self::Broken(error),
            NotSettled::Unknown(reason) => Self::Unknown(reason),
        }
    }
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
    /// [`Error::Open`], or [`Error::Damaged`] where an erasure cannot be read.
    pub fn open_with_backend<B: StorageBackend, R: TryCryptoRng>(
        file: &str,
        backend: impl Fn() -> B + Send + 'static,
        journal: impl StorageBackend,
        options: RedbOptions,
        vault: Arc<Vault>,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let _file = in_file(file);
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
        let _file = in_file(&file);
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
        let Contents { log_id, frontier, time, commands, .. } = contents;
        let index = CommandIndex::default();
        index.fill(&commands, time.unwrap_or_default());
        let (staged, recent) = (Staged::default(), RecentRecords::default());
        staged.reset(frontier);
        let store = RwLock::new(Some(store));
        let failed = AtomicBool::default();
        let shared =
            Shared { file, log_id, commands: index, staged, recent, vault, failed, store, overlay: None };
        let shared = Arc::new(shared);
        let log = Self {
            shared,
            open,
            journal,
            settler: Settler::default(),
            rng,
            frame: Vec::new(),
            commands,
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

    /// Waits until nothing goes into the database beside.
    fn end_settling(&mut self) -> Result<(), NotSettled> {
        if let Some(note) = self.settler.finish()? {
            self.journal.other_is_settled(note);
        }
        Ok(())
    }

    /// Has what is staged go into the database beside, and the journal go on in its other region, which is free.
    fn begin_settling(&mut self) -> Result<(), Failure> {
        let segment = self.shared.staged.settle();
        let note = self.journal.turn(&mut self.rng);
        let begun = self.settler.begin(Arc::clone(&self.shared), segment, note);
        begun.map_err(|error| Failure::Broken(self.shared.unavailable(error)))
    }

    /// Commits everything to the disk, so that the database alone is the log.
    fn settle_all(&mut self) -> Result<(), NotSettled> {
        self.end_settling()?;
        let staged = self.shared.staged.settle();
        settle(&self.shared, &[&staged], None)?;
        self.shared.staged.settled();
        self.journal.end_use();
        Ok(())
    }

    /// Whether the journal has room for a frame of so many bytes. When a region is full it goes on in the other, if that is free.
    fn make_room(&mut self, len: u64) -> Result<bool, Failure> {
        if self.journal.room(len) == Room::InTheOther {
            self.end_settling().map_err(Failure::of_another)?;
            if self.journal.other_is_free() {
                self.begin_settling()?;
            }
        }
        Ok(self.journal.room(len) == Room::Here)
    }

    /// Makes a group durable.
    fn store(&mut self, group: Segment, frame: FinishedFrame) -> Result<(), Failure> {
        if self.make_room(frame.len())? {
            // On the disk before any reader can see it.
            let written = self.journal.append(frame);
            self.frame =
                written.map_err(|error| Failure::Unknown(format!("{}: {error}", self.journal.file)))?;
            self.shared.staged.add(group);
            return Ok(());
        }
        self.end_settling().map_err(Failure::of_another)?;
        let staged = self.shared.staged.settle();
        let note = self.journal.new_note(&mut self.rng);
        settle(&self.shared, &[&staged, &group], Some(&note))?;
        self.journal.begin(note);
        self.shared.staged.reset(group.into_frontier());
        Ok(())
    }

    fn append_group(&mut self, group: Vec<Append>) -> Result<Vec<AppendOutcome>, Failure> {
        if self.settler.is_finished() {
            self.end_settling().map_err(Failure::of_another)?;
        }
        if self.shared.failed.load(Ordering::Acquire) {
            return Err(Failure::Broken(self.shared.unavailable("an earlier read or write has failed")));
        }
        let rows_max = group.len() + COMMANDS_FORGOTTEN_MAX;
        let (outcomes, placed) = self.place(group)?;
        let Placed { mut segment, time, commands, frame } = placed;
        if segment.is_empty() {
            return Ok(outcomes);
        }
        let old = time.into_iter().flat_map(|time| self.commands.old(time, rows_max));
        segment.forgotten.extend(old.map(|row| row.first.get()));
        let forgotten = segment.forgotten.len();
        let erases = self.withhold(&outcomes);
        let frame = frame.finish(segment.frontier());
        self.store(segment, frame)?;
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

    /// Says what becomes of each append of a group, and what is to be stored of it.
    fn place(&mut self, group: Vec<Append>) -> Result<(Vec<AppendOutcome>, Placed), Failure> {
        let shared = &*self.shared;
        let subjects = group.iter().map(|append| &append.subject);
        let keys = shared.vault.keys_for(subjects).map_err(|error| Failure::Broken(error.into()))?;
        // In this order: what is not staged any more is in the database.
        let staged = shared.staged.read();
        let transaction = shared.begin_read().map_err(Failure::Broken)?;
        let stored = transaction.open_table(STREAMS);
        let stored = stored.map_err(|error| Failure::Broken(shared.table_error(Position::START, error)))?;
        let placed = Placed {
            segment: Segment::after(staged.frontier().clone()),
            time: self.time,
            commands: HashMap::new(),
            frame: FrameBuilder::new(std::mem::take(&mut self.frame)),
        };
        let mut batch = Batch { shared, staged: &staged, stored, placed };
        let outcomes = group.into_iter().zip(&keys).map(|(append, key)| batch.append(append, key));
        let outcomes = outcomes.collect::<Result<_, _>>()?;
        Ok((outcomes, batch.placed))
    }
}

/// What is to be stored of a group, and where the log will stand after it.
struct Placed {
    segment: Segment,
    time: Option<Timestamp>,
    commands: HashMap<CommandId, RememberedCommand>,
    /// The group as the journal will have it.
    frame: FrameBuilder,
}

/// A group that is being given its place.
struct Batch<'a> {
    shared: &'a Shared,
    staged: &'a Segments,
    /// The places of streams in the database.
    stored: ReadOnlyTable<(&'static [u8], u32), u64>,
    placed: Placed,
}

impl Batch<'_> {
    fn append(&mut self, append: Append, key: &SubjectKey) -> Result<AppendOutcome, Failure> {
        if let Some(key) = append.command {
            let known = self.placed.commands.get(&key.id).copied();
            if let Some(known) = known.or_else(|| self.shared.commands.find(&key.id)) {
                return Ok(if known.fingerprint == key.fingerprint {
                    AppendOutcome::Replayed(known)
                } else {
                    AppendOutcome::CommandReused
                });
            }
        }
        let stream_key = append.stream.to_index_key();
        if append.events.is_empty() || !self.stands_at(&stream_key, append.expected)? {
            return Ok(AppendOutcome::Conflict);
        }
        let time = append.time.max(self.placed.time.unwrap_or(append.time));
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
            let entry = codec::encode_with(&record, Some(key)).map_err(Failure::Refused)?;
            self.placed.frame.entry(&entry);
            if !self.placed.segment.push(entry, &stream_key, version) {
                let reason = "its version is not the next one of its stream";
                return Err(Failure::Broken(self.shared.damaged(position, reason)));
            }
            records.push(record);
        }
        self.placed.time = Some(time);
        if let Some(key) = append.command {
            let last = records.last().map_or(first, |record| record.position);
            let command = RememberedCommand { fingerprint: key.fingerprint, first, last, time };
            let row = (first.get(), command_row(key.id, &command));
            self.placed.segment.commands.push(row);
            self.placed.frame.command(row);
            self.placed.commands.insert(key.id, command);
        }
        Ok(AppendOutcome::Appended { records, head: head_of(version) })
    }

    /// The position of the next record.
    fn position(&self) -> Position {
        Position::new(self.placed.segment.frontier().size()).next()
    }

    /// Whether the stream's last event is the one that `expected` tells of.
    fn stands_at(&self, stream_key: &[u8], expected: StreamHead) -> Result<bool, Failure> {
        if expected != head_of(expected.version) {
            return Ok(false);
        }
        let staged = self.placed.segment.version_of(stream_key);
        if let Some(version) = staged.or_else(|| self.staged.version_of(stream_key)) {
            return Ok(version == expected.version);
        }
        let has = |version: Version| match self.stored.get((stream_key, version.get())) {
            Ok(row) => Ok(row.is_some()),
            Err(error) => Err(Failure::Broken(self.shared.read_error(Position::START, error))),
        };
        Ok(!has(expected.version.next())? && (expected.version == Version::NONE || has(expected.version)?))
    }
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
        if self.suspended.is_some() || !self.journal.is_used() {
            return Ok(());
        }
        let settled = guarded(|| self.settle_all()).unwrap_or_else(|panic| Err(NotSettled::Unknown(panic)));
        settled.map_err(|error| {
            let reason = error.into_error().to_string();
            self.suspended = Some(format!("the outcome of an earlier commit is not known: {reason}"));
            Error::OutcomeUnknown(reason)
        })
    }

    fn recover(&mut self) -> Result<Position, Error> {
        let _file = in_file(&self.shared.file);
        self.shared.recent.clear();
        self.suspended = Some(format!("{}: not open", self.shared.file));
        // What came of it is in the file.
        let _ = self.settler.finish();
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
        let head = Position::new(contents.frontier.size());
        self.time = contents.time;
        self.shared.staged.reset(contents.frontier);
        self.shared.failed.store(false, Ordering::Release);
        self.shared.set_store(Some(store));
        self.shared.vault.recover()?;
        self.finish_erasures()?;
        self.suspended = None;
        Ok(head)
    }
}

/// Leaves the journal empty, if it can.
impl Drop for RedbLog {
    fn drop(&mut self) {
        if !self.journal.is_used() {
            return;
        }
        let settled = match self.suspended.take() {
            None => guarded(|| self.settle_all())
                .and_then(|settled| settled.map_err(|error| error.into_error().to_string())),
            Some(reason) => {
                // The file is locked until it has ended.
                let _ = self.settler.finish();
                Err(reason)
            }
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
