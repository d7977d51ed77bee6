//! Pending records: durable in the journal, not necessarily in the database yet, and held in memory for
//! readers.
//!
//! A reader looks here first and in the database afterwards: a record that has left by then is in the
//! database. Records found in both places are identical.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::segment::Segment;
use crate::domain::stream::StreamKind;
use crate::log::merkle::{Frontier, Hash};
use crate::log::redb::tables::CommandRow;
use crate::value::position::{Position, Version};

/// The newest range of the log.
#[derive(Debug, Default)]
pub(in crate::log::redb) struct Pending(RwLock<Segments>);

#[derive(Debug, Default)]
pub(in crate::log::redb) struct Segments {
    /// Segment being moved into the database.
    checkpointing: Option<Arc<Segment>>,
    /// Records after that segment.
    newest: Segment,
}

impl Segments {
    /// Merkle tree over the whole log.
    pub(in crate::log::redb) const fn frontier(&self) -> &Frontier {
        self.newest.frontier()
    }

    fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.checkpointing.as_deref().into_iter().chain([&self.newest])
    }

    /// Version of a stream's last pending event; `None` when it has none.
    pub(in crate::log::redb) fn version_of(&self, stream_key: &[u8]) -> Option<Version> {
        let checkpointing = self.checkpointing.as_deref();
        let newest = self.newest.version_of(stream_key);
        newest.or_else(|| checkpointing.and_then(|segment| segment.version_of(stream_key)))
    }
}

impl Pending {
    /// Locks the segments against changes by the writer.
    pub(in crate::log::redb) fn read(&self) -> RwLockReadGuard<'_, Segments> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Segments> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts over: nothing is pending after the entries under `frontier`.
    pub(in crate::log::redb) fn reset(&self, frontier: Frontier) {
        let segments = Segments { checkpointing: None, newest: Segment::after(frontier) };
        let previous = std::mem::replace(&mut *self.write(), segments);
        // Freeing them takes time, so not under the lock.
        drop(previous);
    }

    /// Adds a durable group.
    pub(in crate::log::redb) fn add(&self, group: Segment) {
        self.write().newest.extend(group);
    }

    /// Returns everything pending, to be moved into the database. It stays pending until
    /// [`end_checkpoint`](Self::end_checkpoint).
    pub(in crate::log::redb) fn begin_checkpoint(&self) -> Arc<Segment> {
        let mut segments = self.write();
        let next = Segment::after(segments.newest.frontier().clone());
        let checkpointing = Arc::new(std::mem::replace(&mut segments.newest, next));
        segments.checkpointing = Some(Arc::clone(&checkpointing));
        checkpointing
    }

    /// Drops the segment that is now durable in the database.
    pub(in crate::log::redb) fn end_checkpoint(&self) {
        let stored = self.write().checkpointing.take();
        // Freeing it takes time, so not under the lock.
        drop(stored);
    }

    /// Position of the last record of the log.
    pub(in crate::log::redb) fn head(&self) -> Position {
        Position::new(self.read().frontier().size())
    }

    /// Merkle tree over the whole log.
    pub(in crate::log::redb) fn frontier(&self) -> Frontier {
        self.read().frontier().clone()
    }

    /// The pending ones among the first `entries_max` entries after `after`. The database may lack them.
    pub(in crate::log::redb) fn entries_after(
        &self,
        after: Position,
        entries_max: usize,
    ) -> Vec<(Position, Vec<u8>)> {
        let until = after.get().saturating_add(u64::try_from(entries_max).unwrap_or(u64::MAX));
        let segments = self.read();
        let mut entries = Vec::new();
        for segment in segments.iter() {
            let from = after.get().max(segment.before());
            let len = usize::try_from(until.saturating_sub(from)).unwrap_or(usize::MAX);
            let (first, found) = segment.entries_after(from, len);
            entries.extend((first..).map(Position::new).zip(found.iter().cloned()));
        }
        entries
    }

    /// Version, position and entry of the pending events of a stream.
    pub(in crate::log::redb) fn stream(&self, stream_key: &[u8]) -> Vec<(Version, Position, Vec<u8>)> {
        let segments = self.read();
        let places = segments
            .iter()
            .flat_map(|segment| segment.places_of(stream_key).map(move |place| (segment, place)));
        places
            .filter_map(|(segment, (version, position))| {
                Some((version, position, segment.entry(position)?.to_vec()))
            })
            .collect()
    }

    /// Position and entry of the pending events of all streams of a kind.
    pub(in crate::log::redb) fn of_kind(&self, kind: StreamKind) -> Vec<(Position, Vec<u8>)> {
        let segments = self.read();
        let positions = segments
            .iter()
            .flat_map(|segment| segment.positions_of_kind(kind).map(move |position| (segment, position)));
        positions
            .filter_map(|(segment, position)| Some((position, segment.entry(position)?.to_vec())))
            .collect()
    }

    /// Rows of pending commands, in order.
    pub(in crate::log::redb) fn commands(&self) -> Vec<CommandRow> {
        self.read().iter().flat_map(|segment| segment.commands.iter().copied()).collect()
    }

    /// Index and hash of the pending perfect subtrees at a level, in order.
    pub(in crate::log::redb) fn hashes(&self, level: u8) -> Vec<(u64, Hash)> {
        let segments = self.read();
        let tree = segments.iter().flat_map(Segment::tree).filter(|(at, ..)| *at == level);
        tree.map(|(_, index, hash)| (*index, *hash)).collect()
    }
}
