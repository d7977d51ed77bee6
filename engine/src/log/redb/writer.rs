//! The writing end: appends groups, and reopens the log after errors.

mod group;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use rand::rngs::StdRng;
use rand::{SeedableRng, TryCryptoRng};
use redb::{Builder, Database, DatabaseError, StorageBackend};

use self::group::{EncodedGroup, GroupBuilder};
use super::database::{
    Contents, Shared, builder, create_file, damage, initialize, open_database, read_contents,
};
use super::idempotency::{CommandIndex, CommandRows};
use super::journal::checkpointing::{CheckpointFailed, Checkpointer, checkpoint};
use super::journal::file::{Journal, JournalNote, Room};
use super::journal::frame::{FinishedFrame, FrameBuilder};
use super::journal::pending::Pending;
use super::journal::recovery::{journal_error, recover_journal};
use super::journal::segment::Segment;
use super::reader::RedbReader;
use super::recent::RecentRecords;
use super::tables::STREAMS;
use super::{RedbOptions, journal_beside};
use crate::codec;
use crate::domain::erasure;
use crate::domain::record::Record;
use crate::log::{Append, AppendOutcome, Error, EventLog, LogReader};
use crate::storage::redb_file::{close, guarded, one_line};
use crate::storage::storage_panic::in_file;
use crate::value::position::Position;
use crate::value::time::Timestamp;
use crate::vault::Vault;

/// Maximum number of command rows that an append removes beyond the number it adds. More than one, so that
/// the table shrinks after a busy day; few, so that no append takes long.
const COMMANDS_FORGOTTEN_MAX: usize = 8;

/// Log on redb: the only writing end of its files.
pub struct RedbLog {
    shared: Arc<Shared>,
    open: Box<dyn Fn() -> Result<Database, DatabaseError> + Send>,
    journal: Journal,
    /// Moves full regions of the journal into the database.
    checkpointer: Checkpointer,
    /// Draws the journal's salts.
    rng: StdRng,
    /// Memory of the last frame, for reuse.
    frame: Vec<u8>,
    commands: CommandRows,
    time: Option<Timestamp>,
    /// Why appends are refused until [`EventLog::recover`].
    suspended: Option<String>,
}

/// Reason why a group was not appended.
enum Failure {
    /// This group cannot be stored; others can.
    Refused(codec::Error),
    /// Nothing was appended, and nothing can be until recovery.
    Broken(Error),
    /// The group may or may not have been appended.
    Unknown(String),
}

impl Failure {
    /// Failure of a group that waited for a failed checkpoint: nothing was done for the group.
    fn of_another(error: CheckpointFailed) -> Self {
        Self::Broken(error.into_error())
    }
}

impl From<CheckpointFailed> for Failure {
    fn from(error: CheckpointFailed) -> Self {
        match error {
            CheckpointFailed::Refused(error) => Self::Broken(error),
            CheckpointFailed::Unknown(reason) => Self::Unknown(reason),
        }
    }
}

impl RedbLog {
    /// Opens the log in the file at `path`. Creates it, with an id drawn from `rng`, if it does not exist.
    /// Keys of the vault that erasures in the log name are destroyed.
    ///
    /// # Errors
    /// [`Error::Open`] or [`Error::DamagedFile`], one line for the operator.
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

    /// Opens a log on the caller's storage backends. `backend` is called for the database's at every opening;
    /// `journal` is the journal's. `file` is the name in messages.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::DamagedFile`], or [`Error::Damaged`] where an erasure cannot be read.
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
        initialized.unwrap_or_else(|panic| Err(damage(file, panic)))?;
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
        // The database first: opening it takes the lock for both files.
        let mut journal = match open_journal(contents.journal.as_ref()) {
            Ok(journal) => journal,
            Err(error) => {
                close(store);
                return Err(error);
            }
        };
        let (store, contents) = recover_journal(&file, store, contents, &mut journal, &open)?;
        let Contents { log_id, frontier, time, commands, .. } = contents;
        let index = CommandIndex::default();
        index.load(&commands, time.unwrap_or_default());
        let (pending, recent) = (Pending::default(), RecentRecords::default());
        pending.reset(frontier);
        let store = RwLock::new(Some(store));
        let failed = AtomicBool::default();
        let shared =
            Shared { file, log_id, commands: index, pending, recent, vault, failed, store, overlay: None };
        let shared = Arc::new(shared);
        let log = Self {
            shared,
            open,
            journal,
            checkpointer: Checkpointer::default(),
            rng,
            frame: Vec::new(),
            commands,
            time,
            suspended: None,
        };
        log.finish_erasures()?;
        Ok(log)
    }

    /// Destroys keys that erasures in the log name and that still exist, because of a crash in between or
    /// because the vault is older than the log.
    fn finish_erasures(&self) -> Result<(), Error> {
        self.redb_reader().withhold_erased_keys()?;
        let destroyed = self.shared.vault.destroy_withheld()?;
        if destroyed > 0 {
            tracing::warn!(destroyed, "destroyed keys of personal text that was erased according to the log");
        }
        Ok(())
    }

    /// Withholds the keys that erasures of a group name, and returns whether there are any. A reader of the
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

    /// Returns a reading end with the methods that only this log has.
    #[must_use]
    pub fn redb_reader(&self) -> RedbReader {
        RedbReader { shared: self.shared.clone() }
    }

    /// Waits for the running checkpoint, if any, and frees its region of the journal.
    fn finish_checkpoint(&mut self) -> Result<(), CheckpointFailed> {
        if let Some(note) = self.checkpointer.finish()? {
            self.journal.other_is_checkpointed(note);
        }
        Ok(())
    }

    /// Begins a checkpoint of everything pending, and continues in the other region of the journal, which
    /// must be free.
    fn begin_checkpoint(&mut self) -> Result<(), Failure> {
        let segment = self.shared.pending.begin_checkpoint();
        let note = self.journal.switch_region(&mut self.rng);
        let begun = self.checkpointer.begin(Arc::clone(&self.shared), segment, note);
        begun.map_err(|error| Failure::Broken(self.shared.unavailable(error)))
    }

    /// Commits everything durably, so that the database alone is the whole log.
    fn checkpoint_all(&mut self) -> Result<(), CheckpointFailed> {
        self.finish_checkpoint()?;
        let pending = self.shared.pending.begin_checkpoint();
        checkpoint(&self.shared, &[&pending], None)?;
        self.shared.pending.end_checkpoint();
        self.journal.end_use();
        Ok(())
    }

    /// Whether the journal has room for a frame of `len` bytes. When the current region is full, continues in
    /// the other one, after waiting for its checkpoint.
    fn make_room(&mut self, len: u64) -> Result<bool, Failure> {
        if self.journal.room(len) == Room::InTheOther {
            self.finish_checkpoint().map_err(Failure::of_another)?;
            if self.journal.other_is_free() {
                self.begin_checkpoint()?;
            }
        }
        Ok(self.journal.room(len) == Room::Here)
    }

    /// Makes a group durable and visible.
    fn store(&mut self, group: Segment, frame: FinishedFrame) -> Result<(), Failure> {
        if self.make_room(frame.len())? {
            // Durable before any reader can see it.
            let written = self.journal.append(frame);
            self.frame =
                written.map_err(|error| Failure::Unknown(format!("{}: {error}", self.journal.file)))?;
            self.shared.pending.add(group);
            return Ok(());
        }
        self.finish_checkpoint().map_err(Failure::of_another)?;
        let pending = self.shared.pending.begin_checkpoint();
        let note = self.journal.new_note(&mut self.rng);
        checkpoint(&self.shared, &[&pending, &group], Some(&note))?;
        self.journal.begin(note);
        self.shared.pending.reset(group.into_frontier());
        Ok(())
    }

    fn append_group(&mut self, group: Vec<Append>) -> Result<Vec<AppendOutcome>, Failure> {
        if self.checkpointer.is_finished() {
            self.finish_checkpoint().map_err(Failure::of_another)?;
        }
        if self.shared.failed.load(Ordering::Acquire) {
            return Err(Failure::Broken(self.shared.unavailable("an earlier read or write has failed")));
        }
        let rows_max = group.len() + COMMANDS_FORGOTTEN_MAX;
        let (outcomes, encoded) = self.encode(group)?;
        let EncodedGroup { mut segment, time, commands, frame } = encoded;
        if segment.is_empty() {
            return Ok(outcomes);
        }
        let expired = time.into_iter().flat_map(|time| self.commands.expired(time, rows_max));
        segment.forgotten.extend(expired.map(|row| row.first.get()));
        let forgotten = segment.forgotten.len();
        let erases = self.withhold(&outcomes);
        let frame = frame.finish(segment.frontier());
        self.store(segment, frame)?;
        self.time = time;
        let mut added: Vec<_> = commands.into_iter().collect();
        added.sort_unstable_by_key(|(_, command)| command.first);
        if forgotten > 0 || !added.is_empty() {
            let removed = self.commands.rows.drain(..forgotten);
            self.shared.commands.update(removed, added.iter().copied());
            self.commands.rows.extend(added);
        }
        if erases {
            self.shared.vault.destroy_withheld().map_err(|error| Failure::Unknown(error.to_string()))?;
        }
        Ok(outcomes)
    }

    /// Decides each append of a group, and encodes what is to be stored.
    fn encode(&mut self, group: Vec<Append>) -> Result<(Vec<AppendOutcome>, EncodedGroup), Failure> {
        let shared = &*self.shared;
        let subjects = group.iter().map(|append| &append.subject);
        let keys = shared.vault.keys_for(subjects).map_err(|error| Failure::Broken(error.into()))?;
        // In this order: records that are no longer pending are in the database.
        let pending = shared.pending.read();
        let transaction = shared.begin_read().map_err(Failure::Broken)?;
        let stored = transaction.open_table(STREAMS);
        let stored = stored.map_err(|error| Failure::Broken(shared.table_error(Position::START, error)))?;
        let group_so_far = EncodedGroup {
            segment: Segment::after(pending.frontier().clone()),
            time: self.time,
            commands: HashMap::new(),
            frame: FrameBuilder::new(std::mem::take(&mut self.frame)),
        };
        let mut builder = GroupBuilder { shared, pending: &pending, stored, group: group_so_far };
        let outcomes = group.into_iter().zip(&keys).map(|(append, key)| builder.append(append, key));
        let outcomes = outcomes.collect::<Result<_, _>>()?;
        Ok((outcomes, builder.group))
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
            // The panic may have come after the commit.
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

    fn recycle(&mut self, records: Vec<Record>) {
        if self.suspended.is_none() {
            self.shared.recent.add(records);
        }
    }

    fn checkpoint_journal(&mut self) -> Result<(), Error> {
        if self.suspended.is_some() || !self.journal.is_used() {
            return Ok(());
        }
        let checkpointed =
            guarded(|| self.checkpoint_all()).unwrap_or_else(|panic| Err(CheckpointFailed::Unknown(panic)));
        checkpointed.map_err(|error| {
            let reason = error.into_error().to_string();
            self.suspended = Some(format!("the outcome of an earlier commit is not known: {reason}"));
            Error::OutcomeUnknown(reason)
        })
    }

    fn recover(&mut self) -> Result<Position, Error> {
        let _file = in_file(&self.shared.file);
        self.shared.recent.clear();
        self.suspended = Some(format!("{}: not open", self.shared.file));
        // The checkpoint's outcome is in the file, which is read next.
        let _ = self.checkpointer.finish();
        // The file stays locked until the database is dropped.
        close(self.shared.set_store(None));
        let file = &self.shared.file;
        let (store, contents) = read_contents(file, open_database(file, &self.open)?)?;
        if contents.log_id != self.shared.log_id {
            close(store);
            return Err(Error::Open(format!("{file}: was replaced by another log")));
        }
        let (store, contents) = recover_journal(file, store, contents, &mut self.journal, &self.open)?;
        self.shared.commands.load(&contents.commands, contents.time.unwrap_or_default());
        self.commands = contents.commands;
        let head = Position::new(contents.frontier.size());
        self.time = contents.time;
        self.shared.pending.reset(contents.frontier);
        self.shared.failed.store(false, Ordering::Release);
        self.shared.set_store(Some(store));
        self.shared.vault.recover()?;
        self.finish_erasures()?;
        self.suspended = None;
        Ok(head)
    }
}

/// Checkpoints the journal if possible.
impl Drop for RedbLog {
    fn drop(&mut self) {
        if !self.journal.is_used() {
            return;
        }
        let checkpointed = match self.suspended.take() {
            None => guarded(|| self.checkpoint_all())
                .and_then(|done| done.map_err(|error| error.into_error().to_string())),
            Some(reason) => {
                // The file stays locked until the checkpoint has ended.
                let _ = self.checkpointer.finish();
                Err(reason)
            }
        };
        if let Err(reason) = checkpointed {
            let journal = &self.journal.file;
            tracing::warn!(
                reason,
                journal,
                "the log's database lacks the newest events; its journal has them"
            );
        }
    }
}

/// Omits the database.
impl std::fmt::Debug for RedbLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbLog").field("file", &self.shared.file).finish_non_exhaustive()
    }
}
