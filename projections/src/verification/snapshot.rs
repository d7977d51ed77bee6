//! placeholder
use super::VerificationIndex;
use keyledger_engine::log::LogId;
use keyledger_engine::position::Position;
use std::path::Path;

/// An index as it was saved.
pub struct Snapshot {
    /// The log that it was built from.
    pub log_id: LogId,
    /// The position of the last record applied to it.
    pub position: Position,
    /// The leaf hash of the log's entry at that position; zeros before the first.
    pub entry_hash: [u8; 32],
    /// The index.
    pub index: VerificationIndex,
}

/// Why a snapshot could not be saved or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It is not a snapshot of this version, or is damaged.
    #[error("{0}")]
    Unusable(String),
}

impl VerificationIndex {
    /// Saves.
    ///
    /// # Errors
    /// io
    pub fn save_snapshot(
        &self,
        path: &Path,
        log_id: LogId,
        entry_hash: [u8; 32],
    ) -> Result<Position, SnapshotError> {
        self.save_snapshot_with(path, log_id, |_| Ok(entry_hash))
    }

    /// Saves.
    ///
    /// # Errors
    /// io
    pub fn save_snapshot_with(
        &self,
        _path: &Path,
        _log_id: LogId,
        _entry_hash: impl FnOnce(Position) -> Result<[u8; 32], SnapshotError>,
    ) -> Result<Position, SnapshotError> {
        Err(SnapshotError::Unusable("not yet".into()))
    }

    /// Loads.
    ///
    /// # Errors
    /// io
    pub fn load_snapshot(_path: &Path) -> Result<Snapshot, SnapshotError> {
        Err(SnapshotError::Unusable("not yet".into()))
    }
}
