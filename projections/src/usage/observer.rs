//! Lets go of the usage of keys that are deleted.

use std::sync::Arc;

use keyledger_engine::event::Event;
use keyledger_engine::ledger::Observer;
use keyledger_engine::record::{Record, StreamId};

use super::Usage;

/// Tells [`Usage`] of every key that the ledger deletes.
pub struct UsageObserver(pub Arc<Usage>);

impl Observer for UsageObserver {
    fn committed(&mut self, records: &[Record]) {
        for record in records {
            if let (StreamId::Key(id), Event::KeyDeleted(..)) = (&record.stream, &record.event) {
                self.0.forget(*id);
            }
        }
    }
}
