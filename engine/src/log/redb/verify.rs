//! Reading everything again.

use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::thread;

use redb::{ReadableTable, StorageError};

use super::reader::RedbReader;
use super::tables::{COMMANDS, ENTRIES, META, META_FRONTIER, STREAMS, TREE, read_command_row};
use crate::domain::record::Record;
use crate::log::merkle::{Frontier, Hash, TILE_HEIGHT, leaf_hash};
use crate::log::slices::Slices;
use crate::log::{Error, LogId};
use crate::storage::redb_file::guarded;
use crate::value::position::Position;
use crate::value::time::Timestamp;

/// How many rows one read transaction goes through, as a power of two: the records of a slice are the leaves of a perfect
/// subtree.
const SLICE_HEIGHT: u8 = 12;
const SLICE_LEN: usize = 1 << SLICE_HEIGHT;

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
    /// the head was at the start; the log may grow meanwhile. It goes up to where the
    /// database stood at the start: while the log is busy the newest events are in the journal only, until it may
    /// [rest](crate::log::EventLog::rest).
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
        self.verify_while(sizes, Slices::all_processors(), |position, head| {
            progress(position, head);
            ControlFlow::Continue(())
        })
    }

    /// As [`verify_with_roots`](Self::verify_with_roots), with so many threads, as long as `progress` lets it go on. It is
    /// asked after every few thousand rows, and may take its time; with one thread, nothing else is done meanwhile.
    ///
    /// # Errors
    /// As [`verify`](Self::verify), and [`Error::Unavailable`] when it was not to go on.
    pub fn verify_while(
        &self,
        sizes: &[u64],
        threads: usize,
        mut progress: impl FnMut(Position, Position) -> ControlFlow<()>,
    ) -> Result<VerifyReport, Error> {
        let mut report = VerifyReport {
            log_id: self.shared.log_id,
            head: Position::START,
            root: Frontier::default().root(),
            roots: Vec::new(),
            finding: None,
        };
        let mut records = RecordChecks::default();
        if sizes.contains(&0) {
            records.roots.push((0, report.root));
        }
        let mut checks = Checks { sizes, threads, records: &mut records, head: &mut report.head };
        let checked = guarded(|| self.check_all(&mut checks, &mut progress));
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
        checks: &mut Checks<'_>,
        progress: &mut impl FnMut(Position, Position) -> ControlFlow<()>,
    ) -> Result<Option<Finding>, Error> {
        let mut go_on = |position, head| match progress(position, head) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(self.shared.unavailable("the check was stopped")),
        };
        let (head, stored) = self.check_head()?;
        *checks.head = head;
        let hashers = checks.records.streams.hashers.clone();
        // Besides the records where there is more than one thread: it is no work that could be divided.
        let (found, streams) = thread::scope(|scope| {
            let beside = (checks.threads > 1)
                .then(|| scope.spawn(|| guarded(|| self.sum_streams(&hashers, head, || Ok(())))));
            let found = self.check_records(checks, head, &mut go_on);
            (found, beside.and_then(|beside| beside.join().ok()))
        });
        let mut finding = found?;
        let records = &*checks.records;
        if finding.is_none() {
            finding = first_difference(&records.frontier, &stored);
        }
        // The index of streams may be wrong before what was found so far.
        let sound = finding.as_ref().map_or(head, |finding| {
            Position::new(finding.position.get().saturating_sub(1)).min(records.position())
        });
        if records.position() == sound {
            let streams = match streams {
                Some(Ok(streams)) if sound == head => streams?,
                _ => self.sum_streams(&hashers, sound, || go_on(sound, head))?,
            };
            finding = self.check_streams(records, sound, streams)?.or(finding);
        }
        if finding.is_none() {
            finding = self.check_commands(head)?;
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

    /// Goes through the records, slice by slice, and stops at the first finding.
    fn check_records(
        &self,
        checks: &mut Checks<'_>,
        head: Position,
        go_on: &mut impl FnMut(Position, Position) -> Result<(), Error>,
    ) -> Result<Option<Finding>, Error> {
        let Checks { sizes, threads, records, .. } = checks;
        let (sizes, hashers) = (*sizes, records.streams.hashers.clone());
        let slices = Slices { after: Position::START, until: head, len: SLICE_LEN, threads: *threads };
        let mut found = Ok(None);
        let worker = || |after, len| self.check_slice(SliceChecks::new(after, hashers.clone()), len, sizes);
        slices.run(worker, |slice| {
            let finding = slice.and_then(|slice| self.take_slice(records, slice));
            found = finding.and_then(|finding| go_on(records.position(), head).map(|()| finding));
            if matches!(found, Ok(None)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        found
    }

    /// Goes through `len` records, and through the hashes of the tiles that they complete.
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

    /// Adds what a slice has shown to what those before it have.
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

    /// Compares hashes of perfect subtrees with those that are stored.
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

    /// Sums up the index of streams up to `head`, and notes the first of its rows that does not follow the one before.
    /// Comparing sums of keyed hashes takes one pass in the order of each table; only when they differ is it worth looking
    /// further. `go_on` is called now and then.
    fn sum_streams(
        &self,
        hashers: &[RandomState; 2],
        head: Position,
        mut go_on: impl FnMut() -> Result<(), Error>,
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
                        let worse = Finding::new(Position::new(position), reason);
                        finding =
                            finding.take().filter(|known| known.position <= worse.position).or(Some(worse));
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
            go_on()?;
        }
        Ok((sum.sums, finding))
    }

    /// Compares the index of streams, as it was summed up to `head`, with the records up to there, all of which `records`
    /// has seen.
    fn check_streams(
        &self,
        records: &RecordChecks,
        head: Position,
        (sums, finding): ([u64; 2], Option<Finding>),
    ) -> Result<Option<Finding>, Error> {
        if sums == records.streams.sums { Ok(finding) } else { self.find_stream_difference(head).map(Some) }
    }

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

/// Whether the hashes of subtrees of this level are stored.
const fn is_stored(level: u8) -> bool {
    level > 0 && level.is_multiple_of(TILE_HEIGHT)
}

fn too_early(time: Timestamp, before: Timestamp) -> String {
    format!("its time {time} is before that of the record before, {before}")
}

/// What is checked, and how.
struct Checks<'a> {
    /// Sizes of the tree whose roots are wanted, ascending.
    sizes: &'a [u64],
    threads: usize,
    records: &'a mut RecordChecks,
    head: &'a mut Position,
}

/// What the records say, in the order of positions.
#[derive(Default)]
struct RecordChecks {
    frontier: Frontier,
    time: Option<Timestamp>,
    streams: StreamSum,
    roots: Vec<(u64, Hash)>,
}

impl RecordChecks {
    /// The last position that was checked.
    fn position(&self) -> Position {
        Position::new(self.frontier.size())
    }
}

/// What the records of a slice say by themselves.
struct SliceChecks {
    after: Position,
    /// Over the entries of the slice.
    frontier: Frontier,
    /// Of the first record and of the last one.
    times: Option<(Timestamp, Timestamp)>,
    streams: StreamSum,
    /// As `frontier` was at the sizes of the tree that are wanted.
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

    /// The last position that was checked.
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

    fn add_sums(&mut self, sums: [u64; 2]) {
        for (sum, other) in self.sums.iter_mut().zip(sums) {
            *sum = sum.wrapping_add(other);
        }
    }
}
