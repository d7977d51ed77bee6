//! The database's tables, as docs/format.md describes them. Keys grow with time: a key at a random place
//! would make every commit rewrite pages all over the file.

use std::ops::Bound;

use redb::{CursorError, ReadableTable, StorageError, Table, TableDefinition, TableError, WriteTransaction};

use super::journal::file::JournalNote;
use super::journal::segment::Segment;
use crate::domain::stream::StreamKind;
use crate::log::merkle::Frontier;
use crate::log::{CommandId, RememberedCommand};
use crate::value::position::{Position, Version};
use crate::value::time::Timestamp;

/// Version of the table layout. A file with a greater one was written by a newer version of the program.
/// Layout 1 has no journal and layout 2 a journal of one region; they are otherwise identical.
pub const FORMAT: u32 = 3;

/// Position to checksum and entry.
pub(super) const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
/// Stream and version to position.
pub(super) const STREAMS: TableDefinition<'_, (&[u8], u32), u64> = TableDefinition::new("streams");
/// Position of a command's first event to the remembered command.
pub(super) const COMMANDS: TableDefinition<'_, u64, &[u8; COMMAND_ROW_LEN]> =
    TableDefinition::new("commands");
/// Level and index of a perfect subtree to its hash. Only levels that are multiples of a tile's height are
/// stored.
pub(super) const TREE: TableDefinition<'_, (u8, u64), &[u8; 32]> = TableDefinition::new("tree");
/// Values that exist once.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// Row of [`META`]: [`FORMAT`], big-endian.
pub(super) const META_FORMAT: &str = "format";
/// Row of [`META`]: the log's id.
pub(super) const META_LOG_ID: &str = "log_id";
/// Row of [`META`]: the Merkle tree's right edge.
pub(super) const META_FRONTIER: &str = "frontier";
/// Row of [`META`]: salts and length of the journal; absent while no frame counts.
pub(super) const META_JOURNAL: &str = "journal";

/// Maximum length of rows inserted as one run, in bytes; the last row may exceed it. redb buffers a run until
/// it ends, and a buffer of a megabyte would be allocated from the operating system each time.
const RUN_LEN_MAX: usize = 64 * 1024;

/// The tables of one write transaction.
pub(super) struct Tables<'t> {
    pub(super) entries: Table<'t, u64, &'static [u8]>,
    pub(super) streams: Table<'t, (&'static [u8], u32), u64>,
    pub(super) commands: Table<'t, u64, &'static [u8; COMMAND_ROW_LEN]>,
    tree: Table<'t, (u8, u64), &'static [u8; 32]>,
    meta: Table<'t, &'static str, &'static [u8]>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            entries: transaction.open_table(ENTRIES)?,
            streams: transaction.open_table(STREAMS)?,
            commands: transaction.open_table(COMMANDS)?,
            tree: transaction.open_table(TREE)?,
            meta: transaction.open_table(META)?,
        })
    }

    /// Inserts a segment, which must continue the tables. Returns `false` when a row was already there.
    pub(super) fn insert(&mut self, segment: &Segment) -> Result<bool, StorageError> {
        let mut taken = self.head()? != segment.before();
        let mut row = Vec::with_capacity(512);
        // The rows follow all existing ones. Inserted as runs, they fill pages instead of splitting them.
        let mut end = self.entries.upper_bound_mut(Bound::<u64>::Unbounded)?;
        let mut run_len = 0;
        for (position, entry) in segment.entries() {
            if run_len > RUN_LEN_MAX {
                end.close()?;
                end = self.entries.upper_bound_mut(Bound::<u64>::Unbounded)?;
                run_len = 0;
            }
            write_entry_row(&mut row, entry);
            run_len += row.len();
            taken |= !is_inserted(end.insert_before(position.get(), row.as_slice()))?;
        }
        end.close()?;
        taken |= !self.insert_places(segment)?;
        for (level, index, hash) in segment.tree() {
            self.tree.insert((*level, *index), hash)?;
        }
        for (first, row) in &segment.commands {
            self.commands.insert(first, row)?;
        }
        for first in &segment.forgotten {
            self.commands.remove(first)?;
        }
        Ok(!taken)
    }

    /// Inserts the positions of streams' events. Returns `false` when a row was already there.
    fn insert_places(&mut self, segment: &Segment) -> Result<bool, StorageError> {
        let mut all_inserted = true;
        for kind in StreamKind::all() {
            let mut places = segment.places_of_kind(kind).peekable();
            if places.peek().is_none() {
                continue;
            }
            let mut end = self.streams.lower_bound_mut(Bound::Included((&[kind.code() + 1][..], 0)))?;
            let last = end.peek_prev()?.map(|(last, _)| {
                let (stream_key, version) = last.value();
                (stream_key.to_vec(), version)
            });
            end.close()?;
            // These belong to streams that existed, or have ids of the same millisecond as the last stream's.
            let is_before = |(stream_key, version, _): &(&[u8], Version, Position)| {
                last.as_ref().is_some_and(|last| (*stream_key, version.get()) <= (last.0.as_slice(), last.1))
            };
            while let Some((stream_key, version, position)) = places.next_if(is_before) {
                all_inserted &= self.streams.insert((stream_key, version.get()), position.get())?.is_none();
            }
            // The rest belongs to new streams, in the order of their ids.
            let mut end = self.streams.lower_bound_mut(Bound::Included((&[kind.code() + 1][..], 0)))?;
            for (stream_key, version, position) in places {
                all_inserted &= is_inserted(end.insert_before((stream_key, version.get()), position.get()))?;
            }
            end.close()?;
        }
        Ok(all_inserted)
    }

    /// Stores the right edge of the tree.
    pub(super) fn set_frontier(&mut self, frontier: &Frontier) -> Result<(), StorageError> {
        self.meta.insert(META_FRONTIER, frontier.to_bytes().as_slice()).map(drop)
    }

    /// Stores which frames of the journal count from this commit on, if any.
    pub(super) fn set_journal(&mut self, note: Option<&JournalNote>) -> Result<(), StorageError> {
        self.meta.insert(META_FORMAT, FORMAT.to_be_bytes().as_slice())?;
        match note {
            Some(note) => self.meta.insert(META_JOURNAL, note.to_bytes().as_slice()).map(drop),
            None => self.meta.remove(META_JOURNAL).map(drop),
        }
    }

    /// Position of the last entry.
    fn head(&self) -> Result<u64, StorageError> {
        Ok(self.entries.last()?.map_or(0, |(position, _)| position.value()))
    }
}

/// Whether a cursor inserted a row; `false` when the row's key does not fit its place.
fn is_inserted(outcome: Result<(), CursorError>) -> Result<bool, StorageError> {
    match outcome {
        Ok(()) => Ok(true),
        Err(CursorError::Storage(error)) => Err(error),
        Err(_) => Ok(false),
    }
}

/// Encodes a row of [`ENTRIES`] into `row`, replacing its contents.
fn write_entry_row(row: &mut Vec<u8>, entry: &[u8]) {
    row.clear();
    row.extend(crc32fast::hash(entry).to_le_bytes());
    row.extend(entry);
}

/// The entry in a row of [`ENTRIES`]; `None` when the checksum is wrong.
pub(super) fn read_entry_row(row: &[u8]) -> Option<&[u8]> {
    let (checksum, entry) = row.split_first_chunk::<4>()?;
    (crc32fast::hash(entry) == u32::from_le_bytes(*checksum)).then_some(entry)
}

/// Length of a row of [`COMMANDS`]: id 16, fingerprint 16, last position 8, time 8; numbers big-endian.
pub(super) const COMMAND_ROW_LEN: usize = 48;

/// Key and value of a row of [`COMMANDS`].
pub(super) type CommandRow = (u64, [u8; COMMAND_ROW_LEN]);

/// Encodes a value of [`COMMANDS`].
pub(super) fn command_row(id: CommandId, command: &RememberedCommand) -> [u8; COMMAND_ROW_LEN] {
    let last = command.last.get().to_be_bytes();
    let time = command.time.millis().to_be_bytes();
    let mut row = [0; COMMAND_ROW_LEN];
    let parts = [id.0.as_slice(), command.fingerprint.as_slice(), last.as_slice(), time.as_slice()];
    for (byte, value) in row.iter_mut().zip(parts.into_iter().flatten()) {
        *byte = *value;
    }
    row
}

/// Decodes a row of [`COMMANDS`].
pub(super) fn read_command_row(
    first: u64,
    row: &[u8; COMMAND_ROW_LEN],
) -> Option<(CommandId, RememberedCommand)> {
    let (id, rest) = row.split_first_chunk::<16>()?;
    let (fingerprint, rest) = rest.split_first_chunk::<16>()?;
    let (last, rest) = rest.split_first_chunk::<8>()?;
    let (time, _) = rest.split_first_chunk::<8>()?;
    let command = RememberedCommand {
        fingerprint: *fingerprint,
        first: Position::new(first),
        last: Position::new(u64::from_be_bytes(*last)),
        time: Timestamp::from_millis(i64::from_be_bytes(*time)),
    };
    Some((CommandId(*id), command))
}
