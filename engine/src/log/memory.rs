//! Log in memory, for tests and experiments. Like every other log it stores encoded entries.

use std::collections::{BTreeMap, HashMap};
use std::iter::repeat_n;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::merkle::{Frontier, Hash, TILE_HEIGHT, leaf_hash};
use super::{
    Append, AppendOutcome, CommandId, Error, EventLog, LogId, LogReader, RememberedCommand, SourceId, Stream,
    StreamHead,
};
use crate::codec;
use crate::domain::erasure;
use crate::domain::record::{Personal, Record};
use crate::domain::stream::{StreamId, StreamKind};
use crate::value::position::{Position, Version};
use crate::value::time::Timestamp;
use crate::vault::{SubjectKey, Vault};

/// Log that is lost when the process ends.
#[derive(Debug)]
pub struct MemoryLog {
    reader: Arc<MemoryReader>,
}

#[derive(Debug)]
struct MemoryReader {
    log_id: LogId,
    vault: Arc<Vault>,
    contents: RwLock<Contents>,
}

#[derive(Debug, Clone, Default)]
struct Contents {
    entries: Vec<Arc<[u8]>>,
    streams: HashMap<StreamId, Vec<Position>>,
    commands: HashMap<CommandId, RememberedCommand>,
    frontier: Frontier,
    /// By level and index.
    tree: BTreeMap<(u8, u64), Hash>,
    time: Option<Timestamp>,
}

impl MemoryLog {
    /// Creates an empty log, which seals personal parts with keys of `vault`.
    #[must_use]
    pub fn new(log_id: LogId, vault: Arc<Vault>) -> Self {
        Self { reader: Arc::new(MemoryReader { log_id, vault, contents: RwLock::default() }) }
    }
}

impl EventLog for MemoryLog {
    fn reader(&self) -> Arc<dyn LogReader> {
        self.reader.clone()
    }

    fn vault(&self) -> Arc<Vault> {
        Arc::clone(&self.reader.vault)
    }

    fn append(&mut self, group: Vec<Append>) -> Result<Vec<AppendOutcome>, Error> {
        let vault = &self.reader.vault;
        let keys = vault.keys_for(group.iter().map(|append| &append.subject))?;
        let mut contents = self.reader.contents.write().unwrap_or_else(PoisonError::into_inner);
        // The whole group is encoded before anything is added, so an event that cannot be stored leaves
        // nothing behind.
        let mut after = Planned { before: &contents, added: Contents::default() };
        let appended = group.into_iter().zip(&keys).map(|(append, key)| after.append(append, key));
        let outcomes = appended.collect::<Result<Vec<_>, _>>()?;
        for outcome in &outcomes {
            if let AppendOutcome::Appended { records, .. } = outcome {
                vault.withhold(records.iter().flat_map(|record| erasure::destroyed_keys(&record.event)));
            }
        }
        vault.destroy_withheld()?;
        let added = after.added;
        let contents = &mut *contents;
        for entry in &added.entries {
            contents.frontier.append(leaf_hash(entry), |level, index, hash| {
                if level > 0 && level.is_multiple_of(TILE_HEIGHT) {
                    contents.tree.insert((level, index), *hash);
                }
            });
        }
        contents.entries.extend(added.entries);
        for (stream, positions) in added.streams {
            contents.streams.entry(stream).or_default().extend(positions);
        }
        contents.commands.extend(added.commands);
        contents.time = added.time.or(contents.time);
        Ok(outcomes)
    }

    fn recover(&mut self) -> Result<Position, Error> {
        self.reader.head()
    }
}

/// What a group adds to the log.
struct Planned<'a> {
    before: &'a Contents,
    added: Contents,
}

impl Planned<'_> {
    fn append(&mut self, append: Append, key: &SubjectKey) -> Result<AppendOutcome, codec::Error> {
        if let Some(key) = append.command {
            let known = self.added.commands.get(&key.id).or_else(|| self.before.commands.get(&key.id));
            if let Some(known) = known {
                return Ok(if known.fingerprint == key.fingerprint {
                    AppendOutcome::Replayed(*known)
                } else {
                    AppendOutcome::CommandReused
                });
            }
        }
        let count = |contents: &Contents| contents.streams.get(&append.stream).map_or(0, Vec::len);
        let mut head = head_of(count(self.before) + count(&self.added));
        if append.events.is_empty() || append.expected != head {
            return Ok(AppendOutcome::Conflict);
        }
        let time = append.time.max(self.added.time.or(self.before.time).unwrap_or(append.time));
        let first = Position::new((self.before.entries.len() + self.added.entries.len()) as u64).next();
        let mut position = first;
        let mut records = Vec::with_capacity(append.events.len());
        let positions = self.added.streams.entry(append.stream.clone()).or_default();
        let envelope = (append.stream, append.organization_id, append.actor, append.request_id);
        let events = append.events.len();
        for ((id, event), envelope) in append.events.into_iter().zip(repeat_n(envelope, events)) {
            let (stream, organization_id, actor, request_id) = envelope;
            let version = head.version.next();
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
            self.added.entries.push(codec::encode_with(&record, Some(key))?.into());
            positions.push(position);
            head = StreamHead { version, token: u64::from(version.get()) };
            position = position.next();
            records.push(record);
        }
        self.added.time = Some(time);
        if let Some(key) = append.command {
            let last = records.last().map_or(first, |record| record.position);
            let remembered = RememberedCommand { fingerprint: key.fingerprint, first, last, time };
            self.added.commands.insert(key.id, remembered);
        }
        Ok(AppendOutcome::Appended { records, head })
    }
}

fn head_of(events: usize) -> StreamHead {
    let version = Version::new(u32::try_from(events).unwrap_or(u32::MAX));
    StreamHead { version, token: u64::from(version.get()) }
}

impl MemoryReader {
    fn decode(&self, entry: &[u8]) -> Result<Record, Error> {
        Ok(codec::decode_with(entry, Some(&self.vault))?)
    }

    fn contents(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogReader for MemoryReader {
    fn log_id(&self) -> LogId {
        self.log_id
    }

    fn source_id(&self) -> SourceId {
        SourceId::of(self.log_id, self.vault.id())
    }

    fn head(&self) -> Result<Position, Error> {
        Ok(Position::new(self.contents().entries.len() as u64))
    }

    fn read(&self, after: Position, records_max: usize) -> Result<Vec<Record>, Error> {
        let entries = self.read_entries(after, records_max)?;
        entries.iter().map(|entry| self.decode(entry)).collect()
    }

    fn read_with_leaves(&self, after: Position, records_max: usize) -> Result<Vec<(Record, Hash)>, Error> {
        let entries = self.read_entries(after, records_max)?;
        entries.iter().map(|entry| Ok((self.decode(entry)?, leaf_hash(entry)))).collect()
    }

    fn read_entries(&self, after: Position, records_max: usize) -> Result<Vec<Vec<u8>>, Error> {
        let skipped = usize::try_from(after.get()).unwrap_or(usize::MAX);
        let contents = self.contents();
        Ok(contents.entries.iter().skip(skipped).take(records_max).map(|entry| entry.to_vec()).collect())
    }

    fn read_stream(&self, stream: &StreamId) -> Result<Stream, Error> {
        let contents = self.contents();
        let mut records = Vec::new();
        for position in contents.streams.get(stream).into_iter().flatten() {
            let index = position.entry_index().and_then(|index| usize::try_from(index).ok());
            if let Some(entry) = index.and_then(|index| contents.entries.get(index)) {
                records.push(self.decode(entry)?);
            }
        }
        let head = head_of(records.len());
        Ok(Stream { records, head })
    }

    fn erasures(&self) -> Result<Vec<Record>, Error> {
        let contents = self.contents();
        let of_erasures = contents.streams.iter().filter(|(stream, _)| stream.kind() == StreamKind::Erasure);
        let mut positions: Vec<_> = of_erasures.flat_map(|(_, positions)| positions).collect();
        positions.sort_unstable();
        let index = |position: &Position| usize::try_from(position.entry_index()?).ok();
        let entries = positions.into_iter().filter_map(|position| contents.entries.get(index(position)?));
        entries.map(|entry| self.decode(entry)).collect()
    }

    fn find_command(&self, id: &CommandId) -> Option<RememberedCommand> {
        self.contents().commands.get(id).copied()
    }

    fn commands(
        &self,
        after: Position,
        commands_max: usize,
    ) -> Result<Vec<(CommandId, RememberedCommand)>, Error> {
        let contents = self.contents();
        let commands = contents.commands.iter().filter(|(_, command)| command.first > after);
        let mut commands: Vec<_> = commands.map(|(id, command)| (*id, *command)).collect();
        commands.sort_unstable_by_key(|(_, command)| command.first);
        commands.truncate(commands_max);
        Ok(commands)
    }

    fn subtree_hashes(&self, level: u8, first: u64, count: usize) -> Result<Vec<Hash>, Error> {
        let contents = self.contents();
        let subtrees = contents.tree.range((level, first)..=(level, u64::MAX));
        Ok(subtrees.take(count).map(|(_, hash)| *hash).collect())
    }

    fn frontier(&self) -> Result<Frontier, Error> {
        Ok(self.contents().frontier.clone())
    }
}
