//! A data directory of a service that is not running.

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

/// Commands go through the log from one end to the other; what they have read they hardly need again.
const LOG_OPTIONS: RedbOptions = RedbOptions { cache_bytes: 16 * 1024 * 1024, journal_bytes: 1024 * 1024 };

/// The directory that holds the log, and the projections made from it.
pub(crate) struct DataDirectory(PathBuf);

impl DataDirectory {
    /// Takes the directory at `path`, which must be there.
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

    /// The file of the log.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join(FILE_NAME)
    }

    /// The file of the keys that seal personal text.
    pub(crate) fn vault(&self) -> PathBuf {
        self.0.join(vault::FILE_NAME)
    }

    /// The directory of the projections' files.
    pub(crate) fn projections(&self) -> PathBuf {
        self.0.join("projections")
    }

    /// The file of the verification index's snapshot.
    pub(crate) fn verification_snapshot(&self) -> PathBuf {
        self.projections().join("verification.snapshot")
    }

    /// The file of the checkpoints that were signed.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.0.join(checkpoint_file::FILE_NAME)
    }

    /// The file of the key that checks the checkpoints' signatures.
    pub(crate) fn log_verifier(&self) -> PathBuf {
        self.0.join(transparency::VERIFIER_FILE_NAME)
    }

    /// A file that a backup may hold.
    pub(crate) fn kept(&self, file: KeptFile) -> PathBuf {
        self.0.join(file.name())
    }

    /// Opens the log for reading, with the vault if it is there; without it personal text reads as erased. Nobody can write to it, and the service cannot start, before it is dropped.
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
