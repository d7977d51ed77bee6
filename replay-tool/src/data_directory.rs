//! The data directory of a stopped service.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyledger_engine::backup::KeptFile;
use keyledger_engine::log;
use keyledger_engine::log::redb::{FILE_NAME, RedbOptions, RedbReader};
use keyledger_engine::transparency::{self, checkpoint_file};
use keyledger_engine::vault::{self, Vault};

use crate::output::report::Failure;

/// Commands read the log once from start to end, so a larger cache would hardly be hit.
const LOG_OPTIONS: RedbOptions = RedbOptions { cache_bytes: 16 * 1024 * 1024, journal_bytes: 1024 * 1024 };

/// The directory with the log, the vault and the projections.
pub(crate) struct DataDirectory(PathBuf);

impl DataDirectory {
    /// Checks that `path` is a directory that can be read.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let directory = path.display();
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Ok(Self(path.to_path_buf())),
            Ok(_) => Err(Failure::could_not_run(format!(
                "{directory}: not a directory; name the service's data directory with --data"
            ))),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Failure::could_not_run(format!(
                "{directory}: no such directory; name the service's data directory with --data"
            ))),
            Err(error) => Err(Failure::could_not_run(format!(
                "{directory}: cannot be read: {error}; check its owner and permissions"
            ))),
        }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join(FILE_NAME)
    }

    /// The vault: the keys that seal personal text.
    pub(crate) fn vault(&self) -> PathBuf {
        self.0.join(vault::FILE_NAME)
    }

    pub(crate) fn projections(&self) -> PathBuf {
        self.0.join("projections")
    }

    pub(crate) fn verification_snapshot(&self) -> PathBuf {
        self.projections().join("verification.snapshot")
    }

    /// The signed checkpoints, one per line.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.0.join(checkpoint_file::FILE_NAME)
    }

    /// The public key that verifies the checkpoints' signatures.
    pub(crate) fn log_verifier(&self) -> PathBuf {
        self.0.join(transparency::VERIFIER_FILE_NAME)
    }

    /// A key file that a backup can contain.
    pub(crate) fn kept(&self, file: KeptFile) -> PathBuf {
        self.0.join(file.name())
    }

    /// Opens the log for reading, with the vault if it exists; without a vault, personal text reads as
    /// erased.
    ///
    /// While the reader exists the log cannot be written and the service cannot start.
    pub(crate) fn open_log(&self) -> Result<Arc<RedbReader>, Failure> {
        let path = self.log();
        let shown = path.display();
        let file = File::open(&path).map_err(|error| {
            Failure::could_not_run(match error.kind() {
                ErrorKind::NotFound => {
                    format!("{shown}: no such file; name the service's data directory with --data")
                }
                _ => format!("{shown}: cannot be read: {error}; check its owner and permissions"),
            })
        })?;
        if let Err(TryLockError::WouldBlock) = file.try_lock_shared() {
            return Err(Failure::could_not_run(format!(
                "{shown}: in use by another process; stop the service, or name a backup's directory with --data"
            )));
        }
        drop(file);
        let vault = Vault::open_read_only(&self.vault()).map_err(log::Error::from)?;
        Ok(Arc::new(RedbReader::open_read_only(&path, LOG_OPTIONS, Arc::new(vault))?))
    }
}
