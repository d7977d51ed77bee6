//! What is durable in the journal and need not be in the database yet. It is in memory, and readers find it there.
//!
//! Whoever reads looks here first and into the database after that: what has left by then is in the database, and what is in
//! both is the same.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::segment::Segment;
use crate::domain::stream::StreamKind;
use crate::log::merkle::{Frontier, Hash};
use crate::log::redb::tables::CommandRow;
use crate::value::position::{Position, Version};

/// The newest stretch of the log.
#[derive(Debug, Default)]
pub(in crate::log::redb) struct Staged(RwLock<Segments>);

#[derive(Debug, Default)]
pub(in crate::log::redb) struct Segments {
    /// What goes into the database just now.
    settling: Option<Arc<Segment>>,
    /// What came after that.
    newest: Segment,
}

impl Segments {
    /// The tree over the whole log.
    pub(in crate::log::redb) const fn frontier(&self) -> &Frontier {
        self.newest.frontier()
    }

    fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.settling.as_deref().into_iter().chain([&self.newest])
    }

    /// Which version the last event has that is here of a stream.
    pub(in crate::log::redb) fn version_of(&self, stream_key: &[u8]) -> Option<Version> {
        let settling = self.settling.as_deref();
        let newest = self.newest.version_of(stream_key);
        newest.or_else(|| settling.and_then(|segment| segment.version_of(stream_key)))
    }
}

impl Staged {
    /// The segments, which the writer does not change meanwhile.
    pub(in crate::log::redb) fn read(&self) -> RwLockReadGuard<'_, Segments> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Segments> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins anew after what the database has on the disk: the entries under `frontier`.
    pub(in crate::log::redb) fn reset(&self, frontier: Frontier) {
        let segments = Segments { settling: None, newest: Segment::after(frontier) };
        let before = std::mem::replace(&mut *self.write(), segments);
        // Outside the lock.
        drop(before);
    }

    /// Adds a group, which is durable.
    pub(in crate::log::redb) fn add(&self, group: Segment) {
        self.write().newest.extend(group);
    }

    /// Gives away what there is, to be put into the database. It stays here until [`settled`](Self::settled).
    pub(in crate::log::redb) fn settle(&self) -> Arc<Segment> {
        let mut segments = self.write();
        let next = Segment::after(segments.newest.frontier().clone());
        let settling = Arc::new(std::mem::replace(&mut segments.newest, next));
        segments.settling = Some(Arc::clone(&settling));
        settling
    }

    /// Lets go of what is in the database on the disk now.
    pub(in crate::log::redb) fn settled(&self) {
        let settled = self.write().settling.take();
        // Outside the lock.
        drop(settled);
    }

    /// The position of the last entry of the log.
    pub(in crate::log::redb) fn head(&self) -> Position {
        Position::new(self.read().frontier().size())
    }

    /// The tree over the whole log.
    pub(in crate::log::redb) fn frontier(&self) -> Frontier {
        self.read().frontier().clone()
    }

    /// The entries at positions after `after`, of the first `entries_max` of the log after it, that are here: those that the
    /// database may lack.
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

    /// Version, position and entry of what is here of a stream.
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

    /// Position and entry of all that is here of streams of a kind.
    pub(in crate::log::redb) fn of_kind(&self, kind: StreamKind) -> Vec<(Position, Vec<u8>)> {
        let segments = self.read();
        let positions = segments
            .iter()
            .flat_map(|segment| segment.positions_of_kind(kind).map(move |position| (segment, position)));
        positions
            .filter_map(|(segment, position)| Some((position, segment.entry(position)?.to_vec())))
            .collect()
    }

    /// The rows of commands that are here, in order.
    pub(in crate::log::redb) fn commands(&self) -> Vec<CommandRow> {
        self.read().iter().flat_map(|segment| segment.commands.iter().copied()).collect()
    }

    /// Index and hash of the perfect subtrees at a level that are here, in order.
    pub(in crate::log::redb) fn hashes(&self, level: u8) -> Vec<(u64, Hash)> {
        let segments = self.read();
        let tree = segments.iter().flat_map(Segment::tree).filter(|(at, ..)| *at == level);
        tree.map(|(_, index, hash)| (*index, *hash)).collect()
    }
}
