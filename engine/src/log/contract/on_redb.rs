//! The contract, on the log on redb.

use std::sync::Arc;

use rand::rngs::SysRng;
use tempfile::TempDir;

use super::Fixture;
use crate::log::redb::{FILE_NAME, RedbLog, RedbOptions};
use crate::vault::Vault;

struct InDirectory {
    directory: TempDir,
    options: RedbOptions,
    vault: Arc<Vault>,
}

impl InDirectory {
    fn new(options: RedbOptions) -> Self {
        let vault = Arc::new(Vault::in_memory().unwrap());
        Self { directory: TempDir::new().unwrap(), options, vault }
    }
}

impl Fixture for InDirectory {
    type Log = RedbLog;

    fn create(&mut self) -> RedbLog {
        let (path, vault) = (self.directory.path().join(FILE_NAME), Arc::clone(&self.vault));
        RedbLog::open(&path, self.options, vault, &mut SysRng).unwrap()
    }

    fn reopen(&mut self, log: RedbLog) -> RedbLog {
        drop(log);
        self.create()
    }
}

crate::event_log_contract_tests!(InDirectory::new(RedbOptions::default()));

/// A journal whose regions are full after one or a few groups, so the log is checkpointing all the time.
mod with_a_short_journal {
    use super::{InDirectory, RedbOptions};

    const OPTIONS: RedbOptions = RedbOptions { cache_bytes: 1024 * 1024, journal_bytes: 4 * 1024 };

    crate::event_log_contract_tests!(InDirectory::new(OPTIONS));
}
