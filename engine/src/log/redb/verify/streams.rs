//! Checking of the index of streams against the records.

use std::hash::{BuildHasher, RandomState};

use redb::{ReadableTable, StorageError};

use super::Finding;
use super::records::{RecordChecks, SLICE_LEN};
use crate::log::Error;
use crate::log::redb::reader::RedbReader;
use crate::log::redb::tables::STREAMS;
use crate::value::position::Position;

impl RedbReader {
    /// Sums up the index of streams up to `head`, and returns the first row that does not follow the previous
    /// one of its stream. Comparing sums of keyed hashes takes one pass over each table in its own order; a
    /// closer look is needed only when the sums differ. Calls `proceed` now and then.
    pub(super) fn sum_streams(
        &self,
        hashers: &[RandomState; 2],
        head: Position,
        mut proceed: impl FnMut() -> Result<(), Error>,
    ) -> Result<([u64; 2], Option<Finding>), Error> {
        let mut sum = StreamSum { hashers: hashers.clone(), sums: [0; 2] };
        let mut last: Option<(Vec<u8>, u32)> = None;
        let mut row_before = (Vec::new(), 0_u32, 0_u64);
        let mut finding: Option<Finding> = None;
        let failed = |error: StorageError| self.shared.read_error(Position::START, error);
        loop {
            let transaction = self.shared.begin_read()?;
            let streams = transaction.open_table(STREAMS);
            let streams = streams.map_err(|error| self.shared.table_error(Position::START, error))?;
            let start = match &last {
                Some((key, version)) => std::ops::Bound::Excluded((key.as_slice(), *version)),
                None => std::ops::Bound::Unbounded,
            };
            let mut rows = 0;
            let mut next = None;
            let range = streams.range::<(&[u8], u32)>((start, std::ops::Bound::Unbounded)).map_err(failed)?;
            for row in range.take(SLICE_LEN) {
                let (place, position) = row.map_err(failed)?;
                let ((key, version), position) = (place.value(), position.value());
                if position <= head.get() {
                    sum.add(key, version, position);
                    let (key_before, version_before, position_before) = &mut row_before;
                    if key_before.as_slice() != key {
                        key.clone_into(key_before);
                        (*version_before, *position_before) = (0, 0);
                    }
                    if Some(version) != version_before.checked_add(1) || position <= *position_before {
                        let reason = "its version is not the next one of its stream";
                        let found = Finding::new(Position::new(position), reason);
                        finding =
                            finding.take().filter(|known| known.position <= found.position).or(Some(found));
                    }
                    (*version_before, *position_before) = (version, position);
                }
                rows += 1;
                if rows == SLICE_LEN {
                    next = Some((key.to_vec(), version));
                }
            }
            last = next;
            if last.is_none() {
                break;
            }
            drop(transaction);
            proceed()?;
        }
        Ok((sum.sums, finding))
    }

    /// Compares the index of streams, summed up to `head`, with the records up to there, all of which must
    /// have been checked.
    pub(super) fn check_streams(
        &self,
        records: &RecordChecks,
        head: Position,
        (sums, finding): ([u64; 2], Option<Finding>),
    ) -> Result<Option<Finding>, Error> {
        if sums == records.streams.sums { Ok(finding) } else { self.find_stream_difference(head).map(Some) }
    }

    /// Finds the first position at which the index of streams and the records differ.
    fn find_stream_difference(&self, head: Position) -> Result<Finding, Error> {
        let transaction = self.shared.begin_read()?;
        let streams = transaction.open_table(STREAMS);
        let streams = streams.map_err(|error| self.shared.table_error(Position::START, error))?;
        let mut found = None;
        let mut after = Position::START;
        while found.is_none() && after < head {
            let left = usize::try_from(head.get() - after.get()).unwrap_or(usize::MAX);
            self.scan(after, left.min(SLICE_LEN), |position, entry| {
                let record = self.decode(position, entry)?;
                let place = (&*record.stream.to_index_key(), record.version.get());
                let row = streams.get(place).map_err(|error| self.shared.read_error(position, error))?;
                if found.is_none() && row.is_none_or(|row| row.value() != position.get()) {
                    found = Some(position);
                }
                after = position;
                Ok(())
            })?;
        }
        let reason = "the index of streams does not have this record at its stream and version";
        if let Some(position) = found {
            return Ok(Finding::new(position, reason));
        }
        // Every record has its row, so there must be rows without a record.
        let failed = |error: StorageError| self.shared.read_error(Position::START, error);
        for row in streams.iter().map_err(failed)? {
            let (place, position) = row.map_err(failed)?;
            let ((key, version), position) = (place.value(), Position::new(position.value()));
            let mut fits = position > head;
            if !fits && position > Position::START {
                self.scan(Position::new(position.get() - 1), 1, |position, entry| {
                    let record = self.decode(position, entry)?;
                    fits = record.version.get() == version && record.stream.to_index_key() == key;
                    Ok(())
                })?;
            }
            if !fits {
                return Ok(Finding::new(
                    position,
                    "the index of streams has it at the wrong stream or version",
                ));
            }
        }
        Ok(Finding::new(Position::START, "the index of streams does not match the records"))
    }
}

/// Order-independent sum over the places of streams' events. Equal sets of places have equal sums.
#[derive(Default)]
pub(super) struct StreamSum {
    pub(super) hashers: [RandomState; 2],
    pub(super) sums: [u64; 2],
}

impl StreamSum {
    pub(super) fn add(&mut self, key: &[u8], version: u32, position: u64) {
        for (sum, hasher) in self.sums.iter_mut().zip(&self.hashers) {
            *sum = sum.wrapping_add(hasher.hash_one((key, version, position)));
        }
    }

    pub(super) fn add_sums(&mut self, sums: [u64; 2]) {
        for (sum, other) in self.sums.iter_mut().zip(sums) {
            *sum = sum.wrapping_add(other);
        }
    }
}
