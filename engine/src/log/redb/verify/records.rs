//! Checking of records: checksum, position, time and version of each, and the Merkle tree over them.

use std::hash::RandomState;
use std::ops::ControlFlow;

use super::streams::StreamSum;
use super::{Checks, Finding, finding_of};
use crate::domain::record::Record;
use crate::log::Error;
use crate::log::merkle::{Frontier, Hash, TILE_HEIGHT, leaf_hash};
use crate::log::redb::reader::RedbReader;
use crate::log::redb::tables::TREE;
use crate::log::slices::Slices;
use crate::storage::redb_file::guarded;
use crate::value::position::Position;
use crate::value::time::Timestamp;

/// Number of records that one read transaction covers, as a power of two, so that the records of a slice are
/// the leaves of a perfect subtree.
const SLICE_HEIGHT: u8 = 12;
pub(super) const SLICE_LEN: usize = 1 << SLICE_HEIGHT;

impl RedbReader {
    /// Checks the records slice by slice, up to the first finding.
    pub(super) fn check_records(
        &self,
        checks: &mut Checks<'_>,
        head: Position,
        proceed: &mut impl FnMut(Position, Position) -> Result<(), Error>,
    ) -> Result<Option<Finding>, Error> {
        let Checks { sizes, threads, records, .. } = checks;
        let (sizes, hashers) = (*sizes, records.streams.hashers.clone());
        let slices = Slices { after: Position::START, until: head, len: SLICE_LEN, threads: *threads };
        let mut found = Ok(None);
        let worker = || |after, len| self.check_slice(SliceChecks::new(after, hashers.clone()), len, sizes);
        slices.run(worker, |slice| {
            let finding = slice.and_then(|slice| self.take_slice(records, slice));
            found = finding.and_then(|finding| proceed(records.position(), head).map(|()| finding));
            if matches!(found, Ok(None)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        found
    }

    /// Checks `len` records, and the hashes of the tiles that they complete.
    fn check_slice(&self, mut slice: SliceChecks, len: usize, sizes: &[u64]) -> Result<SliceChecks, Error> {
        let checked = guarded(|| -> Result<(), Error> {
            let after = slice.after;
            let mut completed = Vec::new();
            let scanned = self.scan(after, len, |position, entry| {
                let record = self.decode(position, entry)?;
                slice.check(&record).map_err(|reason| self.shared.damaged(position, reason))?;
                slice.frontier.append(leaf_hash(entry), |level, index, hash| {
                    if is_stored(level) {
                        completed.push((level, (after.get() >> level) + index, *hash));
                    }
                });
                if sizes.binary_search(&position.get()).is_ok() {
                    slice.sizes.push(slice.frontier.clone());
                }
                Ok(())
            });
            slice.finding = scanned.err().map(finding_of).transpose()?;
            if slice.finding.is_none() && slice.frontier.size() < len as u64 {
                slice.finding = Some(Finding::new(slice.position().next(), "no record"));
            }
            slice.finding = self.check_tree(&completed)?.or(slice.finding.take());
            Ok(())
        });
        match checked {
            Ok(checked) => checked?,
            Err(panic) => slice.finding = Some(Finding::new(slice.position().next(), panic)),
        }
        Ok(slice)
    }

    /// Adds the result of a slice to the results of earlier slices.
    fn take_slice(&self, records: &mut RecordChecks, slice: SliceChecks) -> Result<Option<Finding>, Error> {
        if let (Some(before), Some((first, _))) = (records.time, slice.times)
            && first < before
        {
            return Ok(Some(Finding::new(slice.after.next(), too_early(first, before))));
        }
        records.time = slice.times.map(|(_, last)| last).or(records.time);
        for part in &slice.sizes {
            let mut frontier = records.frontier.clone();
            frontier.extend(part, |_, _, _| {});
            records.roots.push((frontier.size(), frontier.root()));
        }
        let mut completed = Vec::new();
        records.frontier.extend(&slice.frontier, |level, index, hash| {
            if level > SLICE_HEIGHT && is_stored(level) {
                completed.push((level, index, *hash));
            }
        });
        records.streams.add_sums(slice.streams.sums);
        Ok(self.check_tree(&completed)?.or(slice.finding))
    }

    /// Compares hashes of perfect subtrees with the stored ones.
    fn check_tree(&self, completed: &[(u8, u64, Hash)]) -> Result<Option<Finding>, Error> {
        let Some((level, index, _)) = completed.first() else { return Ok(None) };
        let first = Position::new(index << level).next();
        let transaction = self.shared.begin_read()?;
        let tree = transaction.open_table(TREE);
        let tree = tree.map_err(|error| self.shared.table_error(first, error))?;
        for (level, index, hash) in completed {
            let first = Position::new(index << level).next();
            let stored = tree.get((*level, *index)).map_err(|error| self.shared.read_error(first, error))?;
            if stored.is_none_or(|stored| stored.value() != hash) {
                let last = (index + 1) << level;
                let reason =
                    format!("the entries {first} to {last} do not have the hash that is stored for them");
                return Ok(Some(Finding::new(first, reason)));
            }
        }
        Ok(None)
    }
}

/// Whether hashes of subtrees at this level are stored.
const fn is_stored(level: u8) -> bool {
    level > 0 && level.is_multiple_of(TILE_HEIGHT)
}

fn too_early(time: Timestamp, before: Timestamp) -> String {
    format!("its time {time} is before the previous record's, {before}")
}

/// Result of checking records in order.
#[derive(Default)]
pub(super) struct RecordChecks {
    /// Merkle tree over the entries of the slice.
    pub(super) frontier: Frontier,
    time: Option<Timestamp>,
    pub(super) streams: StreamSum,
    pub(super) roots: Vec<(u64, Hash)>,
}

impl RecordChecks {
    /// The last position checked.
    pub(super) fn position(&self) -> Position {
        Position::new(self.frontier.size())
    }
}

/// Result of checking the records of one slice by themselves.
struct SliceChecks {
    after: Position,
    /// Over the entries of the slice.
    frontier: Frontier,
    /// Time of the first and of the last record.
    times: Option<(Timestamp, Timestamp)>,
    streams: StreamSum,
    /// Copies of `frontier` at the requested sizes of the tree.
    sizes: Vec<Frontier>,
    finding: Option<Finding>,
}

impl SliceChecks {
    fn new(after: Position, hashers: [RandomState; 2]) -> Self {
        Self {
            after,
            frontier: Frontier::default(),
            times: None,
            streams: StreamSum { hashers, sums: [0; 2] },
            sizes: Vec::new(),
            finding: None,
        }
    }

    /// The last position checked.
    fn position(&self) -> Position {
        Position::new(self.after.get() + self.frontier.size())
    }

    fn check(&mut self, record: &Record) -> Result<(), String> {
        let (first, before) = self.times.unwrap_or((record.time, record.time));
        if record.time < before {
            return Err(too_early(record.time, before));
        }
        self.times = Some((first, record.time));
        if record.version.get() == 0 {
            return Err("its version is 0".into());
        }
        self.streams.add(&record.stream.to_index_key(), record.version.get(), record.position.get());
        Ok(())
    }
}
