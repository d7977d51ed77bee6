//! Verification: reads the whole log again and checks that everything fits together.

mod records;
mod streams;

use std::ops::ControlFlow;
use std::thread;

use redb::{ReadableTable, StorageError};

use self::records::RecordChecks;
use super::reader::RedbReader;
use super::tables::{COMMANDS, ENTRIES, META, META_FRONTIER, TREE, read_command_row};
use crate::log::merkle::{Frontier, Hash, TILE_HEIGHT};
use crate::log::slices::Slices;
use crate::log::{Error, LogId};
use crate::storage::redb_file::guarded;
use crate::value::position::Position;

/// Result of reading a whole log again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// The log.
    pub log_id: LogId,
    /// Its head when the verification began.
    pub head: Position,
    /// Root of the Merkle tree, computed from the entries read.
    pub root: Hash,
    /// Roots of the tree at the requested sizes, as far as the entries could be read.
    pub roots: Vec<(u64, Hash)>,
    /// The first error; `None` when the log is sound.
    pub finding: Option<Finding>,
}

/// Error in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The first damaged position. When only a range is known to be damaged, its first position; the reason
    /// says so.
    pub position: Position,
    /// What is wrong there.
    pub reason: String,
}

impl Finding {
    fn new(position: Position, reason: impl Into<String>) -> Self {
        Self { position: position.max(Position::START.next()), reason: reason.into() }
    }
}

/// Turns damage into a finding; other errors stay errors.
fn finding_of(error: Error) -> Result<Finding, Error> {
    match error {
        Error::Damaged { position, reason, .. } => Ok(Finding::new(position, reason)),
        error => Err(error),
    }
}

impl RedbReader {
    /// Reads everything again: every record with its checksum, position, time and version, the index of
    /// streams, every stored hash of the Merkle tree, and the commands. Calls `progress` now and then with
    /// the position reached and the head at the start. The log may grow meanwhile.
    ///
    /// Only what the database contains at the start is verified. Records that are only in the journal are
    /// not; call [`checkpoint_journal`](crate::log::EventLog::checkpoint_journal) first to include them.
    ///
    /// # Errors
    /// When the file cannot be read at all. Damage is not an error but a [`Finding`].
    pub fn verify(&self, progress: impl FnMut(Position, Position)) -> Result<VerifyReport, Error> {
        self.verify_with_roots(&[], progress)
    }

    /// As [`verify`](Self::verify), and also computes the roots of the tree at `sizes`, which must be in
    /// ascending order.
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

    /// As [`verify_with_roots`](Self::verify_with_roots), with `threads` threads, until `progress` breaks.
    /// `progress` is called after every few thousand rows and may block; with one thread, nothing else
    /// happens meanwhile.
    ///
    /// # Errors
    /// As [`verify`](Self::verify), and [`Error::Unavailable`] when `progress` broke.
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
        let mut proceed = |position, head| match progress(position, head) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(self.shared.unavailable("the verification was stopped")),
        };
        let (head, stored) = self.check_head()?;
        *checks.head = head;
        let hashers = checks.records.streams.hashers.clone();
        // With more than one thread, the index of streams is summed beside the records, because that work
        // cannot be divided.
        let (found, streams) = thread::scope(|scope| {
            let beside = (checks.threads > 1)
                .then(|| scope.spawn(|| guarded(|| self.sum_streams(&hashers, head, || Ok(())))));
            let found = self.check_records(checks, head, &mut proceed);
            (found, beside.and_then(|beside| beside.join().ok()))
        });
        let mut finding = found?;
        let records = &*checks.records;
        if finding.is_none() {
            finding = first_difference(&records.frontier, &stored);
        }
        // The index of streams may be wrong before the first finding so far.
        let sound = finding.as_ref().map_or(head, |finding| {
            Position::new(finding.position.get().saturating_sub(1)).min(records.position())
        });
        if records.position() == sound {
            let streams = match streams {
                Some(Ok(streams)) if sound == head => streams?,
                _ => self.sum_streams(&hashers, sound, || proceed(sound, head))?,
            };
            finding = self.check_streams(records, sound, streams)?.or(finding);
        }
        if finding.is_none() {
            finding = self.check_commands(head)?;
        }
        Ok(finding)
    }

    /// Returns the head and the stored right edge of the tree. Checks that the table of the tree has no
    /// impossible rows.
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

    fn check_commands(&self, head: Position) -> Result<Option<Finding>, Error> {
        let failed = |error: StorageError| self.shared.read_error(Position::START, error);
        let transaction = self.shared.begin_read()?;
        let commands = transaction.open_table(COMMANDS);
        let commands = commands.map_err(|error| self.shared.table_error(Position::START, error))?;
        for row in commands.range(..=head.get()).map_err(failed)? {
            let (first, row) = row.map_err(failed)?;
            let command = read_command_row(first.value(), row.value()).map(|(_, command)| command);
            if command.is_none_or(|command| command.last < command.first || command.last > head) {
                let reason = "the command that begins here has an impossible last position";
                return Ok(Some(Finding::new(Position::new(first.value()), reason)));
            }
        }
        Ok(None)
    }
}

/// First difference between two right edges over the same number of leaves.
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

/// Parameters and progress of a verification.
struct Checks<'a> {
    /// Sizes of the tree whose roots are requested, ascending.
    sizes: &'a [u64],
    threads: usize,
    records: &'a mut RecordChecks,
    head: &'a mut Position,
}
