//! The clock of the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::domain::record::Record;
use crate::value::time::{Clock, Timestamp};

/// The time by which commands are decided: the clock's, but never before the last event's. Without that
/// bound, a clock that is set back would let a period that begins with an event end before the event.
pub(super) struct LogClock {
    clock: Arc<dyn Clock>,
    /// In milliseconds. Only the writer stores it.
    last_event: AtomicI64,
}

impl LogClock {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, last_event: AtomicI64::new(i64::MIN) }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now().max(Timestamp::from_millis(self.last_event.load(Ordering::Acquire)))
    }

    pub(super) fn appended(&self, last: &Record) {
        self.last_event.store(last.time.millis(), Ordering::Release);
    }
}
