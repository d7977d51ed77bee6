//! Past states of a key.

use keyledger_engine::domain::key::Key;
use keyledger_engine::domain::record::Record;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::log::{self, LogReader};
use keyledger_engine::value::id::KeyId;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;

/// A point in the history of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// After the event at this position.
    Position(Position),
    /// After all events up to and including this instant.
    Time(Timestamp),
}

/// Returns a key as it was, with the events up to then, or `None` if it did not exist yet. Deleted keys are
/// returned.
///
/// # Errors
/// When the log cannot be read, or its events do not fit together.
pub fn key_at(
    reader: &dyn LogReader,
    key_id: KeyId,
    at: At,
) -> Result<Option<(Key, Vec<Record>)>, log::Error> {
    let mut records = reader.read_stream(&StreamId::Key(key_id))?.records;
    records.retain(|record| match at {
        At::Position(position) => record.position <= position,
        At::Time(time) => record.time <= time,
    });
    let mut key = None;
    for record in &records {
        let next = Key::apply(key, record).ok_or_else(|| log::Error::Damaged {
            file: "event log".into(),
            position: record.position,
            reason: format!("{} does not fit the events of {key_id} before it", record.event.event_type()),
        })?;
        key = Some(next);
    }
    Ok(key.map(|key| (key, records)))
}
