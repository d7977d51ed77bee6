//! The event log: its contract, and what passes through it.
//!
//! # Contract
//!
//! A log is a sequence of [`Record`]s at positions 1, 2, 3, … without gaps. Every implementation keeps these promises;
//! `contract`, behind the feature `contract-tests`, holds the tests that each must pass.
//!
//! 1. **Order.** An appended record's position is the head's next one. Positions are never reused, records never change
//!    and never go away.
//! 2. **Time.** A record's time is never before the time of the record at the position before; an earlier time given is
//!    raised to it.
//! 3. **Atomicity.** The events of one [`Append`] get consecutive positions, or none of them is appended.
//! 4. **Condition.** An append takes place only if its stream stands exactly at [`Append::expected`]. Appends of a group
//!    are decided one after the other, so that the second sees the first; one that is refused does not touch the others.
//! 5. **Durability.** When [`EventLog::append`] returns `Ok`, every record it tells of survives the loss of power.
//! 6. **What counts.** An event counts when the log gives it back: as [`AppendOutcome::Appended`], or through the
//!    [`LogReader`]. What the caller handed in counts for nothing.
//! 7. **Unknown outcomes.** [`Error::OutcomeUnknown`] means that each append of the group may or may not have taken
//!    place. Nothing more can be appended before [`EventLog::recover`] has said where the log stands. It is never a
//!    failure: the caller repeats the command with the same [`CommandId`], or looks.
//! 8. **Commands.** An append with a [`CommandKey`] whose id the log remembers is not appended again: with the same
//!    fingerprint the answer is [`AppendOutcome::Replayed`], with another [`AppendOutcome::CommandReused`]. A log
//!    remembers ids for at least [`COMMAND_MEMORY_MILLIS`].
//! 9. **Tree.** The entries are the leaves of an RFC 6962 Merkle tree; what is needed to extend it is written in the
//!    same commit as the entries.
//! 10. **Personal text.** The personal part of a record is sealed with the key of [`Append::subject`], which is durable
//!     before the record is. Keys that an appended `PersonalDataErased` names are given to nobody from then on, and are
//!     destroyed when [`EventLog::append`] returns `Ok`; what is left to destroy after a crash is destroyed when the log is
//!     opened. Records whose key is gone read as [`Personal::Erased`](crate::domain::record::Personal), and stay what they are.
//!
//! Where a stream stands is told by a [`StreamHead`], whose token only the log that gave it understands: a version, a
//! sequence number of a replicated log, or whatever else it compares.

use std::sync::Arc;

use crate::domain::event::Event;
use crate::domain::record::Record;
use crate::domain::stream::StreamId;
use crate::value::actor::Actor;
use crate::value::id::{EventId, OrganizationId};
use crate::value::position::{Position, Version};
use crate::value::sha256::sha256;
use crate::value::time::Timestamp;
use crate::vault::{self, Subject, Vault, VaultId};

#[cfg(any(test, feature = "contract-tests"))]
pub mod contract;
pub mod memory;
pub mod merkle;
pub mod redb;
pub mod slices;

/// How long a log remembers a command's id: 24 hours.
pub const COMMAND_MEMORY_MILLIS: i64 = 24 * 60 * 60 * 1_000;

/// Names one log among all there are; drawn at random when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub [u8; 16]);

/// Names a log and the vault by whose keys it is read. What was made from the records of one source does not go on with
/// those of another: where the keys are others, other texts can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceId(pub [u8; 16]);

impl SourceId {
    /// The source of a log that is read with a vault.
    #[must_use]
    pub fn of(log_id: LogId, vault_id: VaultId) -> Self {
        let mut both = [0; 32];
        both.iter_mut().zip(log_id.0.into_iter().chain(vault_id.0)).for_each(|(byte, value)| *byte = value);
        let mut id = [0; 16];
        id.iter_mut().zip(sha256(&both)).for_each(|(byte, value)| *byte = value);
        Self(id)
    }
}

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamHead {
    /// How many events it has.
    pub version: Version,
    /// What the log compares; opaque to everybody else.
    pub token: u64,
}

impl StreamHead {
    /// A stream without events.
    pub const ABSENT: Self = Self { version: Version::NONE, token: 0 };
}

/// Names a command, so that its repetition is recognized: a hash of the caller and of the key that the caller chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub [u8; 16]);

/// A command's id, and a hash of what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandKey {
    /// Names the command.
    pub id: CommandId,
    /// Tells the same request from another under the same name.
    pub fingerprint: [u8; 16],
}

/// A command that the log remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RememberedCommand {
    /// Of the request that carried it.
    pub fingerprint: [u8; 16],
    /// Its first event.
    pub first: Position,
    /// Its last event.
    pub last: Position,
    /// When it was appended.
    pub time: Timestamp,
}

/// The events of one command, for one stream.
#[derive(Debug, Clone)]
pub struct Append {
    /// The aggregate they happen to.
    pub stream: StreamId,
    /// Where its stream must stand.
    pub expected: StreamHead,
    /// When they happen.
    pub time: Timestamp,
    /// The organization concerned, if one.
    pub organization_id: Option<OrganizationId>,
    /// Whose personal text the events hold.
    pub subject: Subject,
    /// Who issued the command.
    pub actor: Actor,
    /// The request that carried it.
    pub request_id: Option<Box<str>>,
    /// The event that led to it, if one.
    pub causation: Option<EventId>,
    /// The events with their ids; at least one.
    pub events: Vec<(EventId, Event)>,
    /// The command's name, if its caller gave one.
    pub command: Option<CommandKey>,
}

/// What became of one [`Append`] of a group.
#[derive(Debug, Clone)]
pub enum AppendOutcome {
    /// It took place.
    Appended {
        /// The events as the log has them now.
        records: Vec<Record>,
        /// Where the stream stands now.
        head: StreamHead,
    },
    /// The stream stood elsewhere.
    Conflict,
    /// The command took place before.
    Replayed(RememberedCommand),
    /// Another command has this name.
    CommandReused,
}

/// A stream from its first event, and where it stands.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Its events.
    pub records: Vec<Record>,
    /// Where it stands.
    pub head: StreamHead,
}

/// What goes wrong with a log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A group of appends may or may not have taken place.
    #[error("it is not known whether the events were stored: {0}")]
    OutcomeUnknown(String),
    /// Nothing can be read or appended now; nothing was appended.
    #[error("the event log is not available: {0}")]
    Unavailable(String),
    /// What is stored is not what was written.
    #[error(
        "{file}: damaged at position {position}: {reason}; restore it from a backup and run `replay-tool verify`"
    )]
    Damaged {
        /// The file.
        file: String,
        /// The first bad position known.
        position: Position,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be opened, or is not what it should be; the text names it and says what to do.
    #[error("{0}")]
    Open(String),
    /// The keys that seal personal text cannot be had.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// An event that cannot be stored.
    #[error(transparent)]
    Record(#[from] crate::codec::Error),
}

/// The writing end of a log. There is one, owned by one thread; calls block.
pub trait EventLog: Send {
    /// A reading end. It goes on working after [`EventLog::recover`].
    fn reader(&self) -> Arc<dyn LogReader>;

    /// The keys that seal personal text.
    fn vault(&self) -> Arc<Vault>;

    /// Appends a group in one commit; the outcomes are in the order of the group. An append without events is a
    /// programming error and is answered as `Conflict`.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] when the commit did not say that it succeeded; any other error means that nothing of
    /// the group was appended.
    fn append(&mut self, group: Vec<Append>) -> Result<Vec<AppendOutcome>, Error>;

    /// Takes back the records of a group that [`EventLog::append`] has told of, when their writer is done with them: readers
    /// may be given them instead of what is stored, which says the same. A log may as well do nothing with them.
    fn told(&mut self, _records: Vec<Record>) {}

    /// Called when nothing has come for a while: a good time to put things in order. A log may as well do nothing.
    ///
    /// # Errors
    /// As [`EventLog::append`], [`EventLog::recover`] included; no record depends on it.
    fn rest(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Finds out where the log stands after an error, and makes it ready for appends again.
    ///
    /// # Errors
    /// When it cannot; the process had better end.
    fn recover(&mut self) -> Result<Position, Error>;
}

/// A reading end of a log; calls may block for a disk.
pub trait LogReader: Send + Sync {
    /// Which log this is.
    fn log_id(&self) -> LogId;

    /// Which log this is, and whose keys its records are read with.
    fn source_id(&self) -> SourceId;

    /// The position of the last record.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn head(&self) -> Result<Position, Error>;

    /// The records after `after`, at most `records_max`; fewer only at the head.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    fn read(&self, after: Position, records_max: usize) -> Result<Vec<Record>, Error>;

    /// The records of a group that was appended lately, the one after `after` among them, if they are at hand as they were
    /// appended; they may begin before it. They are shared, so whoever follows the log need not have copies made.
    fn recent(&self, _after: Position) -> Option<Arc<[Record]>> {
        None
    }

    /// The stored bytes of the records after `after`, at most `records_max`: the entries of the Merkle tree.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    fn read_entries(&self, after: Position, records_max: usize) -> Result<Vec<Vec<u8>>, Error>;

    /// All records of a stream.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    fn read_stream(&self, stream: &StreamId) -> Result<Stream, Error>;

    /// All records of streams of erasures, in the order of positions.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    fn erasures(&self) -> Result<Vec<Record>, Error>;

    /// The command with this id, if the log remembers it. Does not block.
    fn find_command(&self, id: &CommandId) -> Option<RememberedCommand>;

    /// The commands that are kept whose first event is after `after`, in the order of their first events, at most
    /// `commands_max`; some may be older than what is still remembered.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    fn commands(
        &self,
        after: Position,
        commands_max: usize,
    ) -> Result<Vec<(CommandId, RememberedCommand)>, Error>;

    /// The hashes of perfect subtrees of the Merkle tree, at most `count` from the one with index `first` on; fewer only
    /// where the tree ends. `level` is a multiple of [`merkle::TILE_HEIGHT`] above 0: those are stored; leaves are the
    /// hashes of entries.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unavailable`].
    fn subtree_hashes(&self, level: u8, first: u64, count: usize) -> Result<Vec<merkle::Hash>, Error>;

    /// The Merkle tree over all entries at the head.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn frontier(&self) -> Result<merkle::Frontier, Error>;
}
