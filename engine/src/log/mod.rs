//! The event log: its contract, and the types that pass through it.
//!
//! # Contract
//!
//! A log is a sequence of [`Record`]s at positions 1, 2, 3, … without gaps. Every implementation keeps these
//! promises. The module `contract`, behind the feature `contract-tests`, has a test for each, which every
//! implementation must pass.
//!
//! 1. **Order.** An appended record gets the position after the head. Positions are never reused; records
//!    never change and are never removed.
//! 2. **Time.** A record's time is never before the time of the previous record. An earlier time is raised to
//!    it.
//! 3. **Atomicity.** The events of one [`Append`] get consecutive positions, or none of them is appended.
//! 4. **Condition.** An append succeeds only if the head of its stream is exactly [`Append::expected`]. The
//!    appends of a group are decided in order, so the second one sees the first; a refused one does not
//!    affect the others.
//! 5. **Durability.** When [`EventLog::append`] returns `Ok`, every record it returns survives a loss of
//!    power.
//! 6. **What counts.** An event counts once the log returns it, as [`AppendOutcome::Appended`] or through a
//!    [`LogReader`]. What the caller passed in proves nothing.
//! 7. **Unknown outcomes.** [`Error::OutcomeUnknown`] means that each append of the group may or may not have
//!    succeeded. No append is accepted until [`EventLog::recover`] has determined the head. It is never a
//!    failure: the caller repeats the command with the same [`CommandId`], or reads the log.
//! 8. **Commands.** An append with a [`CommandKey`] whose id the log remembers is not appended again. With
//!    the same fingerprint the outcome is [`AppendOutcome::Replayed`], with another one
//!    [`AppendOutcome::CommandReused`]. A log remembers ids for at least [`COMMAND_MEMORY_MILLIS`].
//! 9. **Tree.** The entries are the leaves of an RFC 6962 Merkle tree. The data needed to extend the tree is
//!    written in the same commit as the entries.
//! 10. **Personal text.** The personal part of a record is sealed with the key of [`Append::subject`], which
//!     is durable before the record is. The keys that an appended `PersonalDataErased` names are withheld at
//!     once, and are destroyed when [`EventLog::append`] returns `Ok`. Keys that a crash kept from being
//!     destroyed are destroyed when the log is opened. Records whose key is gone read as
//!     [`Personal::Erased`](crate::domain::record::Personal); their bytes do not change.
//!
//! The head of a stream is a [`StreamHead`]. Only the log that issued its token understands it: a version, a
//! sequence number of a replicated log, or whatever else the log compares.

use std::sync::Arc;

use crate::crypto::sha256::sha256;
use crate::domain::erasure;
use crate::domain::event::Event;
use crate::domain::record::Record;
use crate::domain::stream::StreamId;
use crate::value::actor::Actor;
use crate::value::id::{EventId, OrganizationId};
use crate::value::position::{Position, Version};
use crate::value::time::Timestamp;
use crate::vault::{self, Subject, Vault, VaultId};

#[cfg(any(test, feature = "contract-tests"))]
pub mod contract;
pub mod memory;
pub mod merkle;
pub mod redb;
pub mod slices;

/// Minimum time for which a log remembers a command's id: 24 hours, in milliseconds.
pub const COMMAND_MEMORY_MILLIS: i64 = 24 * 60 * 60 * 1_000;

/// Identifies a log. Drawn at random when the log is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub [u8; 16]);

/// Identifies a log together with the vault whose keys it is read with. A projection built from one source
/// must not be continued from another: with other keys, other texts are readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceId(pub [u8; 16]);

impl SourceId {
    /// The source for a log and a vault.
    #[must_use]
    pub fn of(log_id: LogId, vault_id: VaultId) -> Self {
        let mut both = [0; 32];
        both.iter_mut().zip(log_id.0.into_iter().chain(vault_id.0)).for_each(|(byte, value)| *byte = value);
        let mut id = [0; 16];
        id.iter_mut().zip(sha256(&both)).for_each(|(byte, value)| *byte = value);
        Self(id)
    }
}

/// Head of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamHead {
    /// Number of events in the stream.
    pub version: Version,
    /// Value that the log compares; opaque to everything else.
    pub token: u64,
}

impl StreamHead {
    /// Head of a stream without events.
    pub const ABSENT: Self = Self { version: Version::NONE, token: 0 };
}

/// Identifies a command, so that a repetition is recognized: a hash of the caller and of the idempotency key
/// that the caller chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub [u8; 16]);

/// Id of a command, with a hash of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandKey {
    /// Identifies the command.
    pub id: CommandId,
    /// Hash of the request. It distinguishes a repetition from another request with the same id.
    pub fingerprint: [u8; 16],
}

/// Event as a log stores it, for example in a backup or an import.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The stored bytes.
    pub bytes: Vec<u8>,
    /// The decoded record.
    pub record: Record,
}

/// Command that the log remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RememberedCommand {
    /// Hash of the request that carried it.
    pub fingerprint: [u8; 16],
    /// Position of its first event.
    pub first: Position,
    /// Position of its last event.
    pub last: Position,
    /// Time of its events.
    pub time: Timestamp,
}

/// Events of one command, for one stream.
#[derive(Debug, Clone)]
pub struct Append {
    /// The aggregate that the events happen to.
    pub stream: StreamId,
    /// Head that the stream must have.
    pub expected: StreamHead,
    /// Time of the events. The log raises it to the previous record's time.
    pub time: Timestamp,
    /// The organization concerned, if any.
    pub organization_id: Option<OrganizationId>,
    /// Person or organization that the personal text of the events belongs to.
    pub subject: Subject,
    /// Caller that issued the command.
    pub actor: Actor,
    /// Id of the request that carried the command, if it came over HTTP.
    pub request_id: Option<Box<str>>,
    /// The event that caused the command, if any.
    pub causation: Option<EventId>,
    /// The events with their ids; at least one.
    pub events: Vec<(EventId, Event)>,
    /// Id of the command, if the caller gave an idempotency key.
    pub command: Option<CommandKey>,
}

/// Outcome of one [`Append`] of a group.
#[derive(Debug, Clone)]
pub enum AppendOutcome {
    /// The events were appended.
    Appended {
        /// The events as stored.
        records: Vec<Record>,
        /// New head of the stream.
        head: StreamHead,
    },
    /// The head of the stream was not the expected one.
    Conflict,
    /// The command was appended before.
    Replayed(RememberedCommand),
    /// Another request has used this command id.
    CommandReused,
}

/// A whole stream and its head.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Its events, oldest first.
    pub records: Vec<Record>,
    /// Its head.
    pub head: StreamHead,
}

/// Error of a log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Each append of the group may or may not have succeeded.
    #[error("it is not known whether the events were stored: {0}")]
    OutcomeUnknown(String),
    /// The log cannot be read or written now. Nothing was appended.
    #[error("the event log is unavailable: {0}")]
    Unavailable(String),
    /// The stored bytes are not those that were written.
    #[error(
        "{file}: damaged at position {position}: {reason}; restore it from a backup and run \
         `replay-tool verify`"
    )]
    Damaged {
        /// The file.
        file: String,
        /// The first damaged position known.
        position: Position,
        /// What is wrong.
        reason: String,
    },
    /// The file cannot be opened. The text names the file and says what to do.
    #[error("{0}")]
    Open(String),
    /// The file cannot be opened because it is damaged or not a log, so another one in its place would help.
    /// The text names the file and says what to do.
    #[error("{0}")]
    DamagedFile(String),
    /// The keys that seal personal text are unavailable.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// An event cannot be stored.
    #[error(transparent)]
    Record(#[from] crate::codec::Error),
}

/// Writing end of a log. There is exactly one, owned by one thread. Its methods block.
pub trait EventLog: Send {
    /// Returns a reading end, which keeps working after [`EventLog::recover`].
    fn reader(&self) -> Arc<dyn LogReader>;

    /// The vault with the keys that seal personal text.
    fn vault(&self) -> Arc<Vault>;

    /// Appends a group in one commit. The outcomes are in the order of the group. An append without events is
    /// a programming error and returns [`AppendOutcome::Conflict`].
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] when the commit did not report success. Any other error means that nothing
    /// of the group was appended.
    fn append(&mut self, group: Vec<Append>) -> Result<Vec<AppendOutcome>, Error>;

    /// Returns the records of a group to the log when the writer no longer needs them. The log may keep them
    /// to serve readers from memory; they equal what is stored. The default does nothing.
    fn recycle(&mut self, _records: Vec<Record>) {}

    /// Moves everything in the journal into the database, so that the database alone is the whole log. The
    /// ledger calls this when it is idle, and before a verification. The default, for logs without a journal,
    /// does nothing.
    ///
    /// # Errors
    /// As [`EventLog::append`], including the need to [`recover`](EventLog::recover). No record depends on
    /// it.
    fn checkpoint_journal(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Reopens the log after an error and accepts appends again. Returns the position of the head.
    ///
    /// # Errors
    /// When the log cannot be reopened. The process should end then.
    fn recover(&mut self) -> Result<Position, Error>;
}

/// Reading end of a log. Its methods may block on disk.
pub trait LogReader: Send + Sync {
    /// Identifies the log.
    fn log_id(&self) -> LogId;

    /// Identifies the log and the vault that its records are read with.
    fn source_id(&self) -> SourceId;

    /// Position of the last record.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn head(&self) -> Result<Position, Error>;

    /// Returns the records after `after`, at most `records_max`; fewer only at the head.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    fn read(&self, after: Position, records_max: usize) -> Result<Vec<Record>, Error>;

    /// As [`read`](Self::read), each record with its leaf hash in the Merkle tree, of the stored bytes that
    /// the record was decoded from.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    fn read_with_leaves(
        &self,
        after: Position,
        records_max: usize,
    ) -> Result<Vec<(Record, merkle::Hash)>, Error>;

    /// Returns a recently appended group that contains the record after `after`, if the log still holds it in
    /// memory. The group may begin earlier. It is shared, so a reader that follows the log makes no copies.
    fn recent(&self, _after: Position) -> Option<Arc<[Record]>> {
        None
    }

    /// Returns the stored bytes of the records after `after`, at most `records_max`: the entries of the
    /// Merkle tree.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    fn read_entries(&self, after: Position, records_max: usize) -> Result<Vec<Vec<u8>>, Error>;

    /// Returns all records of a stream.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    fn read_stream(&self, stream: &StreamId) -> Result<Stream, Error>;

    /// Returns all records of erasures, in the order of positions.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    fn erasures(&self) -> Result<Vec<Record>, Error>;

    /// The position of the newest erasure that destroyed a key; none if there is none. Text that was read
    /// before it may have been erased.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    fn newest_erasure(&self) -> Result<Option<Position>, Error> {
        let erasures = self.erasures()?;
        let newest = erasures.iter().rev().find(|record| !erasure::destroyed_keys(&record.event).is_empty());
        Ok(newest.map(|record| record.position))
    }

    /// Returns the command with this id, if the log remembers it. Does not block.
    fn find_command(&self, id: &CommandId) -> Option<RememberedCommand>;

    /// Returns the stored commands whose first event is after `after`, ordered by first event, at most
    /// `commands_max`. Some may be older than [`COMMAND_MEMORY_MILLIS`].
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    fn commands(
        &self,
        after: Position,
        commands_max: usize,
    ) -> Result<Vec<(CommandId, RememberedCommand)>, Error>;

    /// Returns the hashes of perfect subtrees of the Merkle tree, at most `count` from index `first` on;
    /// fewer only where the tree ends. `level` is a multiple of [`merkle::TILE_HEIGHT`] above 0, because only
    /// those are stored. Level 0 is the hashes of entries.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    fn subtree_hashes(&self, level: u8, first: u64, count: usize) -> Result<Vec<merkle::Hash>, Error>;

    /// Returns the Merkle tree over all entries up to the head.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn frontier(&self) -> Result<merkle::Frontier, Error>;
}
