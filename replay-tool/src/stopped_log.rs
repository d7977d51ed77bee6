//! The log of a service that is not running.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::sync::Arc;

use keyledger_engine::kek::Kek;
use keyledger_engine::log;
use keyledger_engine::log::redb::{RedbOptions, RedbReader};
use keyledger_engine::storage::data_directory::DataDirectory;
use keyledger_engine::vault::Vault;

use crate::output::report::Failure;

/// Commands read the log once from one end to the other, so little of it is worth keeping in memory.
const LOG_OPTIONS: RedbOptions = RedbOptions { cache_bytes: 16 * 1024 * 1024, journal_bytes: 1024 * 1024 };

/// Opens the log in `directory` for reading, with the vault if there is one; without it personal text reads
/// as erased. `kek` is what the vault's secrets are wrapped with. Until the reader is dropped no process can
/// write to the log, and the service cannot start.
pub(crate) fn open(directory: &DataDirectory, kek: Option<&Kek>) -> Result<Arc<RedbReader>, Failure> {
    check_unused(directory)?;
    let vault = Vault::open_read_only_wrapped(&directory.vault(), kek).map_err(log::Error::from)?;
    open_with(directory, vault)
}

/// As [`open`], but leaves the vault alone.
pub(crate) fn open_without_vault(directory: &DataDirectory) -> Result<Arc<RedbReader>, Failure> {
    check_unused(directory)?;
    open_with(directory, Vault::empty())
}

fn open_with(directory: &DataDirectory, vault: Vault) -> Result<Arc<RedbReader>, Failure> {
    Ok(Arc::new(RedbReader::open_read_only(&directory.log(), LOG_OPTIONS, Arc::new(vault))?))
}

/// Checks that the log is there, and that no process has it open for writing.
fn check_unused(directory: &DataDirectory) -> Result<(), Failure> {
    let path = directory.log();
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
    Ok(())
}
