//! Fresh replays of the log, to compare with.

use std::sync::Arc;

use keyledger_engine::log::redb::RedbReader;
use keyledger_engine::log::{LogReader, merkle};
use keyledger_engine::position::Position;
use keyledger_projections::projection::Projection;
use keyledger_projections::replay::{BULK_BATCH_LEN, Replay};
use keyledger_projections::store;
use keyledger_projections::verification::VerificationIndex;
use tempfile::TempDir;

use crate::progress::Progress;
use crate::report::Failure;

/// How many records are read at a time.
const BATCH_LEN: usize = 8_192;

/// A directory for what a command makes on the side; gone when dropped.
pub(crate) fn scratch() -> Result<TempDir, Failure> {
    tempfile::Builder::new().prefix("replay-tool-").tempdir().map_err(|error| {
        let directory = std::env::temp_dir();
        let directory = directory.display();
        Failure::could_not_run(format!(
            "{directory}: no temporary files can be made: {error}; name another with TMPDIR"
        ))
    })
}

/// A projection made from the log up to `until`. Its file is in `scratch`, and is open as long as what is returned.
pub(crate) fn stored<P: Projection>(
    scratch: &TempDir,
    projection: P,
    reader: &Arc<RedbReader>,
    until: Position,
) -> Result<Replay<P>, store::Error> {
    let mut progress = Progress::start(format!("replay {}", P::NAME), until);
    let reader: Arc<dyn LogReader> = reader.clone();
    let mut replay = Replay::open(&scratch.path().join("fresh"), projection, reader)?;
    let position = replay.catch_up(until, BULK_BATCH_LEN, |position| progress.reached(position))?;
    progress.finish(position);
    Ok(replay)
}

/// Brings `index` from where it stands to the head of the log.
pub(crate) fn verification(
    label: &str,
    index: &VerificationIndex,
    reader: &RedbReader,
) -> Result<(), Failure> {
    let head = reader.head()?;
    let mut progress = Progress::start(label, head);
    while index.position() < head {
        for record in reader.read(index.position(), BATCH_LEN)? {
            index.apply(&record).map_err(|error| Failure::wrong(format!("{}: {error}", reader.file())))?;
        }
        progress.reached(index.position());
    }
    progress.finish(head);
    Ok(())
}

/// The leaf hash of the entry at `position`; zeros before the first.
pub(crate) fn leaf_at(reader: &dyn LogReader, position: Position) -> Result<merkle::Hash, Failure> {
    let Some(before) = position.entry_index() else { return Ok([0; 32]) };
    let entries = reader.read_entries(Position::new(before), 1)?;
    Ok(entries.first().map_or([0; 32], |entry| merkle::leaf_hash(entry)))
}
