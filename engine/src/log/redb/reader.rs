//! The reading end.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};

use super::database::{Shared, builder, open_database, read_contents};
use super::idempotency::CommandIndex;
use super::journal::pending::Pending;
use super::journal::recovery::read_journal;
use super::recent::RecentRecords;
use super::tables::{COMMANDS, ENTRIES, STREAMS, TREE, read_command_row, read_entry_row};
use super::{RedbOptions, journal_beside};
use crate::codec;
use crate::domain::erasure;
use crate::domain::record::Record;
use crate::domain::stream::{StreamId, StreamKind};
use crate::log::merkle::{Frontier, Hash, leaf_hash};
use crate::log::{CommandId, Error, LogId, LogReader, RememberedCommand, SourceId, Stream, StreamHead};
use crate::storage::overlay::Overlay;
use crate::storage::redb_file::guarded;
use crate::storage::storage_panic::in_file;
use crate::value::position::{Position, Version};
use crate::vault::Vault;

/// Maximum number of records to reserve memory for before reading: growing the vector would move them.
const RECORDS_EXPECTED_MAX: usize = 512;

/// Reading end of a log on redb. Every call reads the current log and keeps no transaction open afterwards,
/// because the database cannot reuse pages that an open read transaction sees.
pub struct RedbReader {
    pub(super) shared: Arc<Shared>,
}

impl RedbReader {
    /// Opens a log that no process has open for writing. The file is not written to: if it needs repair after
    /// a crash, that is done in memory at every opening. The vault may be an older copy: keys that erasures
    /// in the log name are not used.
    ///
    /// # Errors
    /// [`Error::Open`] or [`Error::DamagedFile`].
    pub fn open_read_only(path: &Path, options: RedbOptions, vault: Arc<Vault>) -> Result<Self, Error> {
        let file = path.display().to_string();
        let _file = in_file(&file);
        let overlay = open_database(&file, || Overlay::new(File::open(path)?))?;
        let store = open_database(&file, || builder(options).create_with_backend(overlay.clone()))?;
        let (store, contents) = read_contents(&file, store)?;
        let (store, contents) = read_journal(&file, store, contents, &journal_beside(path))?;
        let commands = CommandIndex::default();
        commands.load(&contents.commands, contents.time.unwrap_or_default());
        let (log_id, pending, recent) = (contents.log_id, Pending::default(), RecentRecords::default());
        pending.reset(contents.frontier);
        let store = RwLock::new(Some(store));
        let failed = AtomicBool::default();
        let shared =
            Shared { file, log_id, commands, pending, recent, vault, failed, store, overlay: Some(overlay) };
        let reader = Self { shared: Arc::new(shared) };
        reader.withhold_erased_keys()?;
        Ok(reader)
    }

    /// Withholds the keys that erasures in the log name.
    pub(super) fn withhold_erased_keys(&self) -> Result<(), Error> {
        let erasures = self.erasures()?;
        self.shared.vault.withhold(erasures.iter().flat_map(|it| erasure::destroyed_keys(&it.event)));
        Ok(())
    }

    /// Name of the file, for messages.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.shared.file
    }

    /// Calls `each` with position and entry of the records after `after`, at most `records_max`.
    pub(super) fn scan(
        &self,
        after: Position,
        records_max: usize,
        mut each: impl FnMut(Position, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut position = after.next();
        let pending = self.shared.pending.entries_after(after, records_max);
        let scanned = guarded(|| {
            let transaction = self.shared.begin_read()?;
            let entries = transaction.open_table(ENTRIES);
            let entries = entries.map_err(|error| self.shared.table_error(position, error))?;
            let range = entries.range(position.get()..);
            for row in range.map_err(|error| self.shared.read_error(position, error))?.take(records_max) {
                let (key, row) = row.map_err(|error| self.shared.read_error(position, error))?;
                if key.value() != position.get() {
                    let found = format!("no record, the next one is at {}", key.value());
                    return Err(self.shared.damaged(position, found));
                }
                let entry = read_entry_row(row.value());
                each(position, entry.ok_or_else(|| self.shared.damaged(position, "wrong checksum"))?)?;
                position = position.next();
            }
            let stored_up_to = position;
            for (at, entry) in pending.into_iter().filter(|(at, _)| *at >= stored_up_to) {
                if at != position {
                    return Err(self.shared.damaged(position, "no record"));
                }
                each(at, &entry)?;
                position = position.next();
            }
            Ok(())
        });
        scanned.unwrap_or_else(|panic| Err(self.shared.damaged(position, panic)))
    }

    /// Decodes the entry at `position`.
    pub(super) fn decode(&self, position: Position, entry: &[u8]) -> Result<Record, Error> {
        let record = codec::decode_with(entry, Some(&self.shared.vault));
        let record = record.map_err(|error| self.shared.damaged(position, error))?;
        if record.position != position {
            let reason = format!("holds the record of position {}", record.position);
            return Err(self.shared.damaged(position, reason));
        }
        Ok(record)
    }

    fn try_erasures(&self) -> Result<Vec<Record>, Error> {
        let shared = &self.shared;
        let at_start = |error| shared.read_error(Position::START, error);
        let mut pending = shared.pending.of_kind(StreamKind::Erasure);
        pending.sort_unstable_by_key(|(position, _)| *position);
        let transaction = shared.begin_read()?;
        let streams = transaction.open_table(STREAMS);
        let streams = streams.map_err(|error| shared.table_error(Position::START, error))?;
        let kind = StreamKind::Erasure.code();
        let mut positions = Vec::new();
        for row in streams.range(([kind].as_slice(), 0)..([kind + 1].as_slice(), 0)).map_err(at_start)? {
            positions.push(row.map_err(at_start)?.1.value());
        }
        positions.sort_unstable();
        let stored_up_to = positions.last().copied().map_or(Position::START, Position::new);
        let entries = transaction.open_table(ENTRIES);
        let entries = entries.map_err(|error| shared.table_error(Position::START, error))?;
        let mut records = Vec::with_capacity(positions.len());
        for position in positions.into_iter().map(Position::new) {
            let stored = entries.get(position.get()).map_err(|error| shared.read_error(position, error))?;
            let stored = stored.ok_or_else(|| shared.damaged(position, "no record"))?;
            let entry = read_entry_row(stored.value());
            let entry = entry.ok_or_else(|| shared.damaged(position, "wrong checksum"))?;
            records.push(self.decode(position, entry)?);
        }
        for (position, entry) in pending.into_iter().filter(|(position, _)| *position > stored_up_to) {
            records.push(self.decode(position, &entry)?);
        }
        Ok(records)
    }

    fn try_read_stream(&self, stream: &StreamId) -> Result<Stream, Error> {
        let shared = &self.shared;
        let key = stream.to_index_key();
        let pending = shared.pending.stream(&key);
        let transaction = shared.begin_read()?;
        let at_start = |error| shared.read_error(Position::START, error);
        let streams = transaction.open_table(STREAMS);
        let streams = streams.map_err(|error| shared.table_error(Position::START, error))?;
        let entries = transaction.open_table(ENTRIES);
        let entries = entries.map_err(|error| shared.table_error(Position::START, error))?;
        let (mut records, mut head) = (Vec::new(), StreamHead::ABSENT);
        let mut add = |at: Version, position, entry: &[u8]| {
            let (record, version) = (self.decode(position, entry)?, head.version.next());
            if record.stream != *stream || record.version != version || at != version {
                let reason = format!("is not version {version} of {stream}, as the index of streams has it");
                return Err(shared.damaged(position, reason));
            }
            head = head_of(version);
            records.push(record);
            Ok(())
        };
        let mut stored_up_to = Version::NONE;
        for row in streams.range((key.as_slice(), 0)..=(key.as_slice(), u32::MAX)).map_err(at_start)? {
            let (place, position) = row.map_err(at_start)?;
            let (position, version) = (Position::new(position.value()), Version::new(place.value().1));
            let stored = entries.get(position.get()).map_err(|error| shared.read_error(position, error))?;
            let stored = stored.ok_or_else(|| shared.damaged(position, "no record"))?;
            let entry = read_entry_row(stored.value());
            let entry = entry.ok_or_else(|| shared.damaged(position, "wrong checksum"))?;
            add(version, position, entry)?;
            stored_up_to = version;
        }
        for (version, position, entry) in pending {
            if version > stored_up_to {
                add(version, position, &entry)?;
            }
        }
        Ok(Stream { records, head })
    }
}

/// Head of a stream at a version. This log's token is the version.
pub(super) fn head_of(version: Version) -> StreamHead {
    StreamHead { version, token: u64::from(version.get()) }
}

impl LogReader for RedbReader {
    fn log_id(&self) -> LogId {
        self.shared.log_id
    }

    fn source_id(&self) -> SourceId {
        SourceId::of(self.shared.log_id, self.shared.vault.id())
    }

    fn head(&self) -> Result<Position, Error> {
        self.shared.is_open()?;
        Ok(self.shared.pending.head())
    }

    fn read(&self, after: Position, records_max: usize) -> Result<Vec<Record>, Error> {
        let mut records = self.shared.recent.after(after, records_max);
        let after = records.last().map_or(after, |record| record.position);
        if records.len() == records_max {
            return Ok(records);
        }
        if records.is_empty() {
            records.reserve(records_max.min(RECORDS_EXPECTED_MAX));
        }
        // The newest records may be stored before their writer has handed them over.
        self.scan(after, records_max - records.len(), |position, entry| {
            records.push(self.decode(position, entry)?);
            Ok(())
        })?;
        Ok(records)
    }

    fn read_with_leaves(&self, after: Position, records_max: usize) -> Result<Vec<(Record, Hash)>, Error> {
        let mut read = Vec::with_capacity(records_max.min(RECORDS_EXPECTED_MAX));
        self.scan(after, records_max, |position, entry| {
            read.push((self.decode(position, entry)?, leaf_hash(entry)));
            Ok(())
        })?;
        Ok(read)
    }

    fn recent(&self, after: Position) -> Option<Arc<[Record]>> {
        self.shared.recent.group_after(after)
    }

    fn read_entries(&self, after: Position, records_max: usize) -> Result<Vec<Vec<u8>>, Error> {
        let mut read = Vec::new();
        self.scan(after, records_max, |_, entry| {
            read.push(entry.to_vec());
            Ok(())
        })?;
        Ok(read)
    }

    fn read_stream(&self, stream: &StreamId) -> Result<Stream, Error> {
        guarded(|| self.try_read_stream(stream))
            .unwrap_or_else(|panic| Err(self.shared.damaged(Position::START, panic)))
    }

    fn erasures(&self) -> Result<Vec<Record>, Error> {
        guarded(|| self.try_erasures())
            .unwrap_or_else(|panic| Err(self.shared.damaged(Position::START, panic)))
    }

    fn find_command(&self, id: &CommandId) -> Option<RememberedCommand> {
        self.shared.commands.find(id)
    }

    fn commands(
        &self,
        after: Position,
        commands_max: usize,
    ) -> Result<Vec<(CommandId, RememberedCommand)>, Error> {
        let shared = &self.shared;
        let read = guarded(|| {
            let pending = shared.pending.commands();
            let transaction = shared.begin_read()?;
            let table = transaction.open_table(COMMANDS);
            let table = table.map_err(|error| shared.table_error(after.next(), error))?;
            let rows = table.range(after.next().get()..);
            let (mut commands, mut stored_up_to) = (Vec::new(), after.get());
            for row in rows.map_err(|error| shared.read_error(after.next(), error))?.take(commands_max) {
                let (first, row) = row.map_err(|error| shared.read_error(after.next(), error))?;
                commands.extend(read_command_row(first.value(), row.value()));
                stored_up_to = first.value();
            }
            let pending = pending.iter().filter(|(first, _)| *first > stored_up_to);
            commands.extend(pending.filter_map(|(first, row)| read_command_row(*first, row)));
            commands.truncate(commands_max);
            Ok(commands)
        });
        read.unwrap_or_else(|panic| Err(shared.damaged(after.next(), panic)))
    }

    fn subtree_hashes(&self, level: u8, first: u64, count: usize) -> Result<Vec<Hash>, Error> {
        let at = Position::new(first << level).next();
        let read = guarded(|| {
            let pending = self.shared.pending.hashes(level);
            let transaction = self.shared.begin_read()?;
            let tree = transaction.open_table(TREE);
            let tree = tree.map_err(|error| self.shared.table_error(at, error))?;
            let rows = tree.range((level, first)..=(level, u64::MAX));
            let mut hashes = Vec::new();
            for row in rows.map_err(|error| self.shared.read_error(at, error))?.take(count) {
                let (key, hash) = row.map_err(|error| self.shared.read_error(at, error))?;
                if key.value().1 != first + hashes.len() as u64 {
                    return Err(self.shared.damaged(at, "hashes of the Merkle tree are missing"));
                }
                hashes.push(*hash.value());
            }
            for (index, hash) in pending {
                if hashes.len() < count && index == first + hashes.len() as u64 {
                    hashes.push(hash);
                }
            }
            Ok(hashes)
        });
        read.unwrap_or_else(|panic| Err(self.shared.damaged(at, panic)))
    }

    fn frontier(&self) -> Result<Frontier, Error> {
        self.shared.is_open()?;
        Ok(self.shared.pending.frontier())
    }
}

/// Omits the database.
impl std::fmt::Debug for RedbReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbReader").field("file", &self.shared.file).finish_non_exhaustive()
    }
}
