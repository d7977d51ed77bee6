//! Events as CloudEvents 1.0 in the JSON event format.

use keyledger_engine::domain::record::Record;
use keyledger_engine::log::LogId;
use serde_json::{Value, json};

use crate::audit_trail::event_json;

/// Converts an event to a CloudEvent. `source` and `id` identify it among the events of all logs; `data` is
/// the event as the HTTP interface shows it. `sequence` is the position in twenty digits, so that texts sort
/// like numbers (CloudEvents, "Sequence" extension).
#[must_use]
pub fn cloud_event(log_id: LogId, record: &Record) -> Value {
    let log_id: String = log_id.0.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "specversion": "1.0",
        "id": record.id.to_string(),
        "source": format!("urn:keyledger:log:{log_id}"),
        "type": format!("keyledger.{}", record.event.event_type()),
        "subject": record.stream.to_string(),
        "time": record.time.to_string(),
        "sequence": format!("{:020}", record.position.get()),
        "datacontenttype": "application/json",
        "data": event_json(record),
    })
}
