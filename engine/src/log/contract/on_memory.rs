//! The contract, on the log in memory.

use std::sync::Arc;

use super::Fixture;
use crate::log::LogId;
use crate::log::memory::MemoryLog;
use crate::vault::Vault;

struct InMemory;

impl Fixture for InMemory {
    type Log = MemoryLog;

    fn create(&mut self) -> MemoryLog {
        MemoryLog::new(LogId([1; 16]), Arc::new(Vault::in_memory().unwrap()))
    }

    fn reopen(&mut self, log: MemoryLog) -> MemoryLog {
        log
    }
}

crate::event_log_contract_tests!(InMemory);
