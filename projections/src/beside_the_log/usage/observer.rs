//! Removes the usage of deleted keys.

use std::sync::Arc;

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::record::Record;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::ledger::Observer;

use super::Usage;

/// Notifies [`Usage`] of every key that the ledger deletes.
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
