//! A key's history as a timeline of sentences: actor, action, time, address, and the values before and after.

use keyledger_engine::value::time::Timestamp;
use serde_json::Value;

use super::actor_name::ActorNames;
use super::event::Event;
use super::event_sentence::{Known, Object, Sentence};
use crate::console::parts::moment::Moment;
use crate::console::visit::visitor::Visitor;

/// An entry of the timeline.
#[derive(Debug)]
pub(crate) struct Entry {
    pub position: u64,
    pub version: u32,
    /// The colour of the entry's dot: `good`, `bad` or neutral.
    pub tone: &'static str,
    pub actor: String,
    pub sentence: Sentence,
    /// The values before, if known, and after.
    pub change: Option<(Option<String>, String)>,
    /// The actor's note.
    pub note: Option<String>,
    pub at: Moment,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
}

/// Describes `events`, which are oldest first, latest first.
pub(crate) async fn entries(visitor: &Visitor, events: &[Event]) -> Vec<Entry> {
    let names = ActorNames::of(visitor, events.iter().map(|event| &event.actor)).await;
    let mut known = Known::default();
    let mut entries: Vec<Entry> = events
        .iter()
        .map(|event| {
            let text = known.describe(event, Object::It);
            Entry {
                position: event.position,
                version: event.version,
                tone: text.tone,
                actor: names.get(&event.actor).into(),
                sentence: text.sentence,
                change: text.change,
                note: event.data.get("note").and_then(Value::as_str).map(Into::into),
                at: Moment::new(event.time, visitor.now),
                ip: event.actor.ip.clone(),
                user_agent: event.actor.user_agent.clone(),
            }
        })
        .collect();
    entries.reverse();
    entries
}

/// When the previous token expires, if it still works.
pub(crate) fn old_token_until(events: &[Event], now: Timestamp) -> Option<Moment> {
    let rotated = events.iter().rev().find(|event| event.event_type == "KeyRotated")?;
    let until: Timestamp = rotated.data.get("previous_valid_until")?.as_str()?.parse().ok()?;
    (until > now).then(|| Moment::new(until, now))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(event_type: &str, data: Value) -> Event {
        serde_json::from_value(json!({
            "position": 1, "time": "2026-11-12T14:03:07.112Z", "type": event_type, "version": 1,
            "stream": { "kind": "key", "id": "key_x" }, "organization_id": null,
            "actor": { "kind": "root_key", "id": "rk_x", "ip": null, "user_agent": null },
            "request_id": null, "data": data,
        }))
        .unwrap()
    }

    #[test]
    fn only_the_last_rotation_leaves_an_old_token() {
        let now: Timestamp = "2026-11-12T15:00:00Z".parse().unwrap();
        let rotated = |until: &str| event("KeyRotated", json!({ "previous_valid_until": until }));
        let until = |events: &[Event]| old_token_until(events, now).map(|until| until.relative());
        assert_eq!(until(&[rotated("2026-11-12T17:00:00.000Z")]), Some("in 2 hours".into()));
        assert_eq!(until(&[rotated("2026-11-12T17:00:00.000Z"), rotated("2026-11-12T14:00:00.000Z")]), None);
        assert_eq!(until(&[]), None);
    }
}
