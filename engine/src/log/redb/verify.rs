//! Reading everything again.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;

use redb::{ReadableTable, StorageError};

use super::database::guarded;
use super::reader::RedbReader;
use super::tables::{COMMANDS, ENTRIES, META, META_FRONTIER, STREAMS, TREE, read_command_row};
use crate::log::merkle::{Frontier, Hash, TILE_HEIGHT, leaf_hash};
use crate::log::{Error, LogId};
use crate::position::Position;
use crate::record::Record;
use crate::time::Timestamp;

/// How many rows one read transaction goes through.
const BATCH: usize = 4_096;

/// What reading a whole log again has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// Which log it is.
    pub log_id: LogId,
    /// Where it stood when the reading began.
    pub head: Position,
    /// The root of the Merkle tree over the entries that were read, as computed from them.
    pub root: Hash,
    /// The roots of the tree at the sizes that were asked for, as far as the entries could be read.
    pub roots: Vec<(u64, Hash)>,
    /// The first thing that is wrong; none when all is right.
    pub finding: Option<Finding>,
}

/// Something wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The first bad position; where only a range is known to be bad, its first, and the reason says so.
    pub position: Position,
    /// What is wrong there.
    pub reason: String,
}

impl Finding {
    fn new(position: Position, reason: impl Into<String>) -> Self {
        Self { position: position.max(Position::START.next()), reason: reason.into() }
    }
}

/// Damage becomes a finding; any other error stays one.
fn finding_of(error: Error) -> Result<Finding, Error> {
    match error {
        Error::Damaged { position, reason, .. } => Ok(Finding::new(position, reason)),
        error => Err(error),
    }
}

impl RedbReader {
    /// Reads everything again: every record with its checksum, place, time and stream, the index of streams, every
    /// stored hash of the Merkle tree, and the commands. `progress` is told now and then how far it has come, and where
    /// the head was at the start; the log may grow meanwhile.
    ///
    /// # Errors
    /// When the file cannot be read at all; damage is not an error but a [`Finding`].
    pub fn verify(&self, progress: impl FnMut(Position, Position)) -> Result<VerifyReport, Error> {
        self.verify_with_roots(&[], progress)
    }

    /// As [`verify`](Self::verify), and computes the roots of the tree at some sizes, in ascending order, on the way.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn verify_with_roots(
        &self,
        sizes: &[u64],
        mut progress: impl FnMut(Position, Position),
    ) -> Result<VerifyReport, Error> {
        self.verify_while(sizes, |position, head| {
            progress(position, head);
            ControlFlow::Continue(())
        })
    }

    /// As [`verify_with_roots`](Self::verify_with_roots), as long as `progress` lets it go on. It is asked after every few
    /// thousand rows, and may take its time.
    ///
    /// # Errors
    /// As [`verify`](Self::verify), and [`Error::Unavailable`] when it was not to go on.
    pub fn verify_while(
        &self,
        sizes: &[u64],
        mut progress: impl FnMut(Position, Position) -> ControlFlow<()>,
    ) -> Result<VerifyReport, Error> {
        let mut report = VerifyReport {
            log_id: self.shared.log_id,
            head: Position::START,
            root: Frontier::default().root(),
            roots: Vec::new(),
            finding: None,
        };
        let mut records = RecordChecks { wanted: sizes.iter().copied().collect(), ..RecordChecks::default() };
        records.note_root();
        let checked = guarded(|| self.check_all(&mut records, &mut report.head, &mut progress));
        let finding = match checked {
            Ok(Ok(finding)) => finding,
            Ok(Err(error)) => Some(finding_of(error)?),
            Err(panic) => Some(Finding::new(records.position().next(), panic)),
        };
        report.root = records.frontier.root();
        report.roots = records.roots;
        report.finding = finding;
        Ok(report)
    }

    fn check_all(
        &self,
        records: &mut RecordChecks,
        head: &mut Position,
        progress: &mut impl FnMut(Position, Position) -> ControlFlow<()>,
    ) -> Result<Option<Finding>, Error> {
        let mut go_on = |position, head| match progress(position, head) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(self.shared.unavailable("the check was stopped")),
        };
        let (stored_head, stored) = self.check_head()?;
        *head = stored_head;
        let mut finding = None;
        while finding.is_none() && records.position() < *head {
            finding = self.check_records(records, *head)?;
            go_on(records.position(), *head)?;
        }
        if finding.is_none() {
            finding = first_difference(&records.frontier, &stored);
        }
        // The index of streams may be wrong before what was found so far.
        let sound = finding.as_ref().map_or(*head, |finding| {
            Position::new(finding.position.get().saturating_sub(1)).min(records.position())
        });
        if records.position() == sound {
            finding = self.check_streams(records, sound, || go_on(sound, *head))?.or(finding);
        }
        if finding.is_none() {
            finding = self.check_commands(*head)?;
        }
        Ok(finding)
    }

    /// The head, the right edge stored with it, and whether the tree's table has what it should have and no more.
    fn check_head(&self) -> Result<(Position, Frontier), Error> {
        let failed = |error: StorageError| self.shared.read_error(Position::START, error);
        let transaction = self.shared.begin_read()?;
        let open = |error| self.shared.table_error(Position::START, error);
        let entries = transaction.open_table(ENTRIES).map_err(open)?;
        let meta = transaction.open_table(META).map_err(open)?;
        let tree = transaction.open_table(TREE).map_err(open)?;
        let head = entries.last().map_err(failed)?.map_or(0, |(position, _)| position.value());
        let row = meta.get(META_FRONTIER).map_err(failed)?;
        let frontier = row.and_then(|row| Frontier::from_bytes(row.value()));
        let frontier = frontier
            .ok_or_else(|| self.shared.damaged(Position::START, "the Merkle tree's right edge is missing"))?;
        if frontier.size() != head {
            let reason =
                format!("the last record is at {head}, the Merkle tree has {} entries", frontier.size());
            return Err(self.shared.damaged(Position::new(head.min(frontier.size())).next(), reason));
        }
        for row in tree.iter().map_err(failed)? {
            let (level, index) = row.map_err(failed)?.0.value();
            let complete = head.checked_shr(level.into()).unwrap_or(0);
            if level == 0 || level % TILE_HEIGHT != 0 || index >= complete {
                let reason = format!(
                    "the Merkle tree has a hash at level {level}, index {index}, that it cannot have"
                );
                return Err(self.shared.damaged(Position::new(head), reason));
            }
        }
        Ok((Position::new(head), frontier))
    }

    /// Goes through one batch of records, and through the hashes of the tiles that it completes.
    fn check_records(&self, records: &mut RecordChecks, head: Position) -> Result<Option<Finding>, Error> {
        let after = records.position();
        let left = usize::try_from(head.get() - after.get()).unwrap_or(usize::MAX);
        let mut completed = Vec::new();
        let scanned = self.scan(after, left.min(BATCH), |position, entry| {
            let record = self.decode(position, entry)?;
            records.check(&record).map_err(|reason| self.shared.damaged(position, reason))?;
            records.frontier.append(leaf_hash(entry), |level, index, hash| {
                if level > 0 && level % TILE_HEIGHT == 0 {
                    completed.push((level, index, *hash));
                }
            });
            records.note_root();
            Ok(())
        });
        let mut finding = scanned.err().map(finding_of).transpose()?;
        if finding.is_none() && records.position() == after {
            finding = Some(Finding::new(after.next(), "no record"));
        }
        let transaction = self.shared.begin_read()?;
        let tree = transaction.open_table(TREE);
        let tree = tree.map_err(|error| self.shared.table_error(after.next(), error))?;
        for (level, index, hash) in completed {
            let first = Position::new(index << level).next();
            let stored = tree.get((level, index)).map_err(|error| self.shared.read_error(first, error))?;
            if stored.is_none_or(|stored| *stored.value() != hash) {
                let last = (index + 1) << level;
                let reason =
                    format!("the entries {first} to {last} do not have the hash that is stored for them");
                return Ok(Some(Finding::new(first, reason)));
            }
        }
        Ok(finding)
    }

    /// Compares the index of streams with the records up to `head`, all of which `records` has seen. Comparing sums of
    /// keyed hashes takes one pass in the order of each table; only when they differ is it worth looking further.
    /// `go_on` is called now and then.
    fn check_streams(
        &self,
        records: &RecordChecks,
        head: Position,
        mut go_on: impl FnMut() -> Result<(), Error>,
    ) -> Result<Option<Finding>, Error> {
        let mut sum = StreamSum { hashers: records.streams.hashers.clone(), sums: [0; 2] };
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
            for row in range.take(BATCH) {
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
                        let worse = Finding::new(Position::new(position), reason);
                        finding =
                            finding.take().filter(|known| known.position <= worse.position).or(Some(worse));
                    }
                    (*version_before, *position_before) = (version, position);
                }
                rows += 1;
                if rows == BATCH {
                    next = Some((key.to_vec(), version));
                }
            }
            last = next;
            if last.is_none() {
                break;
            }
            drop(transaction);
            go_on()?;
        }
        if sum.sums == records.streams.sums {
            Ok(finding)
        } else {
            self.find_stream_difference(head).map(Some)
        }
    }

    fn find_stream_difference(&self, head: Position) -> Result<Finding, Error> {
        let transaction = self.shared.begin_read()?;
        let streams = transaction.open_table(STREAMS);
        let streams = streams.map_err(|error| self.shared.table_error(Position::START, error))?;
        let mut found = None;
        let mut after = Position::START;
        while found.is_none() && after < head {
            let left = usize::try_from(head.get() - after.get()).unwrap_or(usize::MAX);
            self.scan(after, left.min(BATCH), |position, entry| {
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
        // Every record has its row, so there are rows without a record.
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
                    "the index of streams has it at a wrong stream or version",
                ));
            }
        }
        Ok(Finding::new(Position::START, "the index of streams is not that of the records"))
    }

    fn check_commands(&self, head: Position) -> Result<Option<Finding>, Error> {
        let failed = |error: StorageError| self.shared.read_error(Position::START, error);
        let transaction = self.shared.begin_read()?;
        let commands = transaction.open_table(COMMANDS);
        let commands = commands.map_err(|error| self.shared.table_error(Position::START, error))?;
        for row in commands.range(..=head.get()).map_err(failed)? {
            let (first, row) = row.map_err(failed)?;
            let command = read_command_row(first.value(), row.value()).map(|(_, command)| command);
            if command.is_none_or(|command| command.last < command.first || command.last > head) {
                let reason = "the command that begins here has no such last position";
                return Ok(Some(Finding::new(Position::new(first.value()), reason)));
            }
        }
        Ok(None)
    }
}

/// Where two right edges over the same number of leaves first differ.
fn first_difference(computed: &Frontier, stored: &Frontier) -> Option<Finding> {
    let mut first = 0_u64;
    let mut sizes = (0..u64::BITS).rev().map(|bit| 1_u64 << bit).filter(|size| computed.size() & size != 0);
    for (computed, stored) in computed.roots().iter().zip(stored.roots()) {
        let size = sizes.next().unwrap_or(0);
        if computed != stored {
            let (from, to) = (first + 1, first + size);
            let reason = format!("the entries {from} to {to} do not have the hash that is stored for them");
            return Some(Finding::new(Position::new(from), reason));
        }
        first += size;
    }
    None
}

/// What the records say, in the order of positions.
#[derive(Default)]
struct RecordChecks {
    frontier: Frontier,
    time: Option<Timestamp>,
    streams: StreamSum,
    /// Sizes of the tree whose roots are still to come.
    wanted: VecDeque<u64>,
    roots: Vec<(u64, Hash)>,
}

impl RecordChecks {
    /// Notes the root of the tree, if it is one that is wanted.
    fn note_root(&mut self) {
        while self.wanted.front() == Some(&self.frontier.size()) {
            self.wanted.pop_front();
            self.roots.push((self.frontier.size(), self.frontier.root()));
        }
    }

    /// The last position that was checked.
    fn position(&self) -> Position {
        Position::new(self.frontier.size())
    }

    fn check(&mut self, record: &Record) -> Result<(), String> {
        if let Some(time) = self.time.filter(|time| record.time < *time) {
            return Err(format!("its time {} is before that of the record before, {time}", record.time));
        }
        if record.version.get() == 0 {
            return Err("its version is 0".into());
        }
        self.time = Some(record.time);
        self.streams.add(&record.stream.to_index_key(), record.version.get(), record.position.get());
        Ok(())
    }
}

/// A sum that is the same for the same places of streams in any order.
#[derive(Default)]
struct StreamSum {
    hashers: [RandomState; 2],
    sums: [u64; 2],
}

impl StreamSum {
    fn add(&mut self, key: &[u8], version: u32, position: u64) {
        for (sum, hasher) in self.sums.iter_mut().zip(&self.hashers) {
            *sum = sum.wrapping_add(hasher.hash_one((key, version, position)));
        }
    }
}
