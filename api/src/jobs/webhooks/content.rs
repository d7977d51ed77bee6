//! The body of a message. It is read from the log at every attempt, so that it never contains text that was
//! erased meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use keyledger_engine::domain::key::{Key, KeyStatus};
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::domain::webhook::{MessageType, Webhook};
use keyledger_engine::ledger::Aggregate;
use keyledger_engine::log::LogReader;
use keyledger_engine::value::id::KeyId;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::audit_trail::event_json;
use keyledger_projections::beside_the_log::deliveries::Message;
use serde_json::{Value, json};

use super::lookup::read;
use crate::auth::origin::conceal_outsiders;
use crate::service::Service;

/// The log could not be read.
pub(crate) struct Unreadable;

/// Returns the current body of a message: `type`, `timestamp` and `data` (Standard Webhooks 1.0, "Payload
/// structure"). A webhook of an organization sees what its callers see. Returns none for a message that no
/// longer applies.
///
/// # Errors
/// When the log cannot be read.
pub(crate) async fn render(
    service: &Arc<Service>,
    webhook: &Webhook,
    message: &Message,
) -> Result<Option<Bytes>, Unreadable> {
    let (reader, message, now) = (service.ledger.reader(), message.clone(), service.now());
    let (index, organization_id) = (Arc::clone(&service.index), webhook.organization_id.clone());
    let rendered = read(service, move || match message {
        Message::Event { position, id, .. } => {
            let before = Position::new(position.entry_index().ok_or(Unreadable)?);
            let records = reader.read(before, 1).map_err(|_| Unreadable)?;
            // After a restore from a backup, the log may have a different event at this position.
            let record = records.into_iter().next().filter(|record| record.id == id);
            Ok(record.map(|mut record| {
                conceal_outsiders(&index, organization_id.as_ref(), &mut record);
                body(record.event.event_type().as_str(), record.time, &event_json(&record))
            }))
        }
        Message::KeyExpiringSoon { key_id, expires_at, notice_millis } => {
            let key = key(reader.as_ref(), key_id)?;
            let key =
                key.filter(|key| key.expires_at == Some(expires_at) && key.status(now) == KeyStatus::Active);
            Ok(key.map(|key| {
                let time = expires_at.saturating_add_millis(-notice_millis);
                body(MessageType::KEY_EXPIRING_SOON, time, &expiring(&key, notice_millis))
            }))
        }
    });
    rendered.await.map_err(|_| Unreadable)?
}

/// Returns the body of a message.
#[must_use]
pub(crate) fn body(message_type: &str, time: Timestamp, data: &Value) -> Bytes {
    json!({ "type": message_type, "timestamp": time.to_string(), "data": data }).to_string().into()
}

/// Returns the current state of a key, replayed from the log.
pub(super) fn key(reader: &dyn LogReader, id: KeyId) -> Result<Option<Key>, Unreadable> {
    let stream = reader.read_stream(&StreamId::Key(id)).map_err(|_| Unreadable)?;
    match Aggregate::fold(&stream.records).map_err(|_| Unreadable)? {
        Some(Aggregate::Key(key)) => Ok(Some(key)),
        _ => Ok(None),
    }
}

fn expiring(key: &Key, notice_millis: i64) -> Value {
    json!({
        "key_id": key.id.to_string(),
        "organization_id": key.organization_id.as_str(),
        "user_id": key.user_id,
        "name": key.name,
        "environment": key.environment,
        "api_id": key.api_id,
        "start": key.hint.start,
        "last_four": key.hint.last_four,
        "expires_at": key.expires_at,
        "notice_seconds": notice_millis / 1_000,
    })
}
