//! Fresh replays of the log, which `diff` compares the projections with.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use keyledger_engine::log::redb::RedbReader;
use keyledger_engine::log::{LogReader, merkle};
use keyledger_engine::value::position::Position;
use keyledger_projections::stored::projection::Projection;
use keyledger_projections::stored::replay::{BULK_BATCH_LEN, Replay};
use keyledger_projections::stored::store;
use keyledger_projections::verification::VerificationIndex;
use tempfile::TempDir;

use crate::output::progress::Progress;
use crate::output::report::Failure;

/// Records per read.
const BATCH_LEN: usize = 8_192;

/// A temporary directory. Projections contain names in clear, so only its owner can read it. Deleted when
/// dropped.
pub(crate) fn scratch() -> Result<TempDir, Failure> {
    let only_owner = Permissions::from_mode(0o700);
    tempfile::Builder::new().prefix("replay-tool-").permissions(only_owner).tempdir().map_err(|error| {
        let directory = std::env::temp_dir();
        let directory = directory.display();
        Failure::could_not_run(format!(
            "{directory}: cannot create temporary files: {error}; name another directory with TMPDIR"
        ))
    })
}

/// Replays a projection from the log up to `until`.
///
/// Its file is unlinked at once, so nothing remains however the process ends. It is open as long as the
/// returned value.
pub(crate) fn stored<P: Projection>(
    scratch: &TempDir,
    projection: P,
    reader: &Arc<RedbReader>,
    until: Position,
) -> Result<Replay<P>, store::Error> {
    let mut progress = Progress::start(format!("replay {}", P::NAME), until);
    let reader: Arc<dyn LogReader> = reader.clone();
    let directory = scratch.path().join("fresh");
    let mut replay = Replay::open(&directory, projection, reader)?;
    fs::remove_dir_all(&directory).map_err(|error| store::Error::Unavailable {
        file: directory.display().to_string(),
        reason: error.to_string(),
    })?;
    let position = replay.catch_up(until, BULK_BATCH_LEN, |position| progress.reached(position))?;
    progress.finish(position);
    Ok(replay)
}

/// Applies the log's records to `index`, from the index's position to the log's head.
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

/// The leaf hash of the entry at `position`; zeros for position 0.
pub(crate) fn leaf_at(reader: &dyn LogReader, position: Position) -> Result<merkle::Hash, Failure> {
    let Some(before) = position.entry_index() else { return Ok([0; 32]) };
    let entries = reader.read_entries(Position::new(before), 1)?;
    Ok(entries.first().map_or([0; 32], |entry| merkle::leaf_hash(entry)))
}

#[cfg(test)]
mod tests {
    use keyledger_engine::log::redb::{FILE_NAME, RedbLog, RedbOptions};
    use keyledger_engine::vault::Vault;
    use keyledger_projections::key_list::KeyListProjection;
    use rand::rngs::SysRng;

    use super::*;

    #[test]
    fn a_fresh_replay_leaves_no_file_and_others_cannot_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE_NAME);
        let vault = Arc::new(Vault::in_memory().unwrap());
        drop(RedbLog::open(&file, RedbOptions::default(), Arc::clone(&vault), &mut SysRng).unwrap());
        let reader = Arc::new(RedbReader::open_read_only(&file, RedbOptions::default(), vault).unwrap());
        let scratch = scratch().unwrap();
        assert_eq!(fs::metadata(scratch.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let fresh = stored(&scratch, KeyListProjection::without_readers(), &reader, Position::START).unwrap();
        assert_eq!(
            fs::read_dir(scratch.path()).unwrap().count(),
            0,
            "a killed process would leave this file"
        );
        drop(fresh);
    }
}
