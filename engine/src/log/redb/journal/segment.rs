//! A range of the log with everything derived from it, ready for the database's tables.

use std::collections::BTreeMap;

use crate::domain::stream::StreamKind;
use crate::log::merkle::{Frontier, Hash, TILE_HEIGHT, leaf_hash};
use crate::log::redb::tables::CommandRow;
use crate::value::position::{Position, Version};

/// Consecutive entries, with the rows that other tables have for them.
#[derive(Debug, Default)]
pub(in crate::log::redb) struct Segment {
    /// Number of entries before the segment.
    before: u64,
    entries: Vec<Vec<u8>>,
    /// By stream key.
    streams: BTreeMap<Vec<u8>, Places>,
    /// Level, index and hash of perfect subtrees that the entries complete, at stored levels.
    tree: Vec<(u8, u64, Hash)>,
    pub(in crate::log::redb) commands: Vec<CommandRow>,
    /// First positions of commands that no longer have to be remembered.
    pub(in crate::log::redb) forgotten: Vec<u64>,
    /// Merkle tree after the entries.
    frontier: Frontier,
}

/// Positions of a stream's events.
#[derive(Debug)]
struct Places {
    /// Version of the first event.
    first: u32,
    /// Position of that event and of the following versions.
    positions: Vec<u64>,
}

impl Places {
    fn next_version(&self) -> Option<u32> {
        self.first.checked_add(u32::try_from(self.positions.len()).ok()?)
    }

    fn iter(&self) -> impl Iterator<Item = (Version, Position)> {
        (self.first..).map(Version::new).zip(self.positions.iter().copied().map(Position::new))
    }
}

impl Segment {
    /// An empty segment after the entries under `frontier`.
    pub(in crate::log::redb) fn after(frontier: Frontier) -> Self {
        Self { before: frontier.size(), frontier, ..Self::default() }
    }

    pub(in crate::log::redb) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of entries before the segment.
    pub(in crate::log::redb) const fn before(&self) -> u64 {
        self.before
    }

    /// Merkle tree after the segment.
    pub(in crate::log::redb) const fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Merkle tree after the segment.
    pub(in crate::log::redb) fn into_frontier(self) -> Frontier {
        self.frontier
    }

    /// Adds the next entry, an event of the stream with this key. Returns `false`, and adds nothing, when the
    /// version does not follow the segment's last event of that stream.
    pub(in crate::log::redb) fn push(&mut self, entry: Vec<u8>, stream_key: &[u8], version: Version) -> bool {
        let position = self.frontier.size() + 1;
        match self.streams.get_mut(stream_key) {
            Some(places) if places.next_version() == Some(version.get()) => places.positions.push(position),
            Some(_) => return false,
            None => {
                let places = Places { first: version.get(), positions: vec![position] };
                self.streams.insert(stream_key.to_vec(), places);
            }
        }
        let tree = &mut self.tree;
        self.frontier.append(leaf_hash(&entry), |level, index, hash| {
            if level > 0 && level % TILE_HEIGHT == 0 {
                tree.push((level, index, *hash));
            }
        });
        self.entries.push(entry);
        true
    }

    /// Adds a segment that follows this one.
    pub(in crate::log::redb) fn extend(&mut self, next: Self) {
        self.entries.extend(next.entries);
        for (key, places) in next.streams {
            match self.streams.get_mut(&key) {
                Some(known) => known.positions.extend(places.positions),
                None => drop(self.streams.insert(key, places)),
            }
        }
        self.tree.extend(next.tree);
        self.commands.extend(next.commands);
        self.forgotten.extend(next.forgotten);
        self.frontier = next.frontier;
    }

    /// The segment's entries after position `after`, at most `entries_max`, with the position of the first
    /// one.
    pub(in crate::log::redb) fn entries_after(&self, after: u64, entries_max: usize) -> (u64, &[Vec<u8>]) {
        let skipped = after.saturating_sub(self.before);
        let entries = usize::try_from(skipped).ok().and_then(|skipped| self.entries.get(skipped..));
        let entries = entries.unwrap_or_default();
        (self.before + skipped + 1, entries.get(..entries_max).unwrap_or(entries))
    }

    /// The entry at a position, if the segment contains it.
    pub(in crate::log::redb) fn entry(&self, position: Position) -> Option<&[u8]> {
        let index = position.get().checked_sub(self.before + 1)?;
        self.entries.get(usize::try_from(index).ok()?).map(Vec::as_slice)
    }

    /// Version of the segment's last event of a stream; `None` when it has none.
    pub(in crate::log::redb) fn version_of(&self, stream_key: &[u8]) -> Option<Version> {
        let next = self.streams.get(stream_key)?.next_version()?;
        Some(Version::new(next.saturating_sub(1)))
    }

    /// Versions and positions of the segment's events of a stream.
    pub(in crate::log::redb) fn places_of(
        &self,
        stream_key: &[u8],
    ) -> impl Iterator<Item = (Version, Position)> {
        self.streams.get(stream_key).into_iter().flat_map(Places::iter)
    }

    /// Positions of the segment's events of streams of a kind, stream by stream.
    pub(in crate::log::redb) fn positions_of_kind(&self, kind: StreamKind) -> impl Iterator<Item = Position> {
        self.places_of_kind(kind).map(|(_, _, position)| position)
    }

    /// Stream key, version and position of events of streams of a kind, in the order of stream keys.
    pub(in crate::log::redb) fn places_of_kind(
        &self,
        kind: StreamKind,
    ) -> impl Iterator<Item = (&[u8], Version, Position)> {
        let streams = self.streams.range(vec![kind.code()]..vec![kind.code() + 1]);
        streams.flat_map(|(key, places)| {
            places.iter().map(move |(version, position)| (key.as_slice(), version, position))
        })
    }

    /// All entries with their positions.
    pub(in crate::log::redb) fn entries(&self) -> impl Iterator<Item = (Position, &[u8])> {
        (self.before + 1..).map(Position::new).zip(self.entries.iter().map(Vec::as_slice))
    }

    /// Level, index and hash of the perfect subtrees that the entries complete, at stored levels.
    pub(in crate::log::redb) fn tree(&self) -> impl Iterator<Item = &(u8, u64, Hash)> {
        self.tree.iter()
    }
}
