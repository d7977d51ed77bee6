//! A key's history as a timeline of sentences: who did what, when, from where; and what was before and after.

use keyledger_engine::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::actor_name::{Actor, ActorNames};
use super::moment::Moment;
use super::visitor::Visitor;

/// An event as the calls answer it.
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    /// Its place in the log.
    pub position: u64,
    /// When it was appended.
    pub time: Timestamp,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Its place among the events of its key.
    pub version: u32,
    /// Who did it.
    pub actor: Actor,
    /// The request that carried the command.
    pub request_id: Option<String>,
    /// What there is to say of it.
    pub data: Value,
}

/// An event as it is told.
#[derive(Debug)]
pub struct Entry {
    /// Its place in the log.
    pub position: u64,
    /// Its place among the events of its key.
    pub version: u32,
    /// How its dot looks: `good`, `bad` or nothing.
    pub tone: &'static str,
    /// Who did it.
    pub actor: String,
    /// What they did.
    pub sentence: String,
    /// What was before and after.
    pub change: Option<(String, String)>,
    /// What they wrote.
    pub note: Option<String>,
    /// When.
    pub at: Moment,
    /// From where.
    pub ip: Option<String>,
    /// With which program.
    pub user_agent: Option<String>,
    /// The request.
    pub request_id: Option<String>,
}

/// Tells events, which stand oldest first, the latest first.
pub async fn tell(visitor: &Visitor, events: &[Event]) -> Vec<Entry> {
    let names = ActorNames::of(visitor, events.iter().map(|event| &event.actor)).await;
    let mut known = Known::default();
    let mut entries: Vec<Entry> = events
        .iter()
        .map(|event| {
            let told = known.tell(event);
            Entry {
                position: event.position,
                version: event.version,
                tone: told.tone,
                actor: names.get(&event.actor).into(),
                sentence: told.sentence,
                change: told.change,
                note: event.data.get("note").and_then(Value::as_str).map(Into::into),
                at: Moment::new(event.time, visitor.now),
                ip: event.actor.ip.clone(),
                user_agent: event.actor.user_agent.clone(),
                request_id: event.request_id.clone(),
            }
        })
        .collect();
    entries.reverse();
    entries
}

/// Until when the token before the present one is accepted, if it is still.
pub fn old_token_until(events: &[Event], now: Timestamp) -> Option<Moment> {
    let rotated = events.iter().rev().find(|event| event.event_type == "KeyRotated")?;
    let until: Timestamp = rotated.data.get("previous_valid_until")?.as_str()?.parse().ok()?;
    (until > now).then(|| Moment::new(until, now))
}

struct Told {
    tone: &'static str,
    sentence: String,
    change: Option<(String, String)>,
}

/// What is known of the key before an event.
#[derive(Default)]
struct Known {
    name: String,
    description: String,
    metadata: String,
    scopes: String,
    end: String,
}

impl Known {
    fn tell(&mut self, event: &Event) -> Told {
        let data = &event.data;
        let plain = |sentence: &str| Told { tone: "", sentence: sentence.into(), change: None };
        let changed = |sentence: &str, before: &mut String, after: String| {
            let before = std::mem::replace(before, after.clone());
            Told { tone: "", sentence: sentence.into(), change: Some((before, after)) }
        };
        match event.event_type.as_str() {
            "KeyCreated" => {
                *self = Self {
                    name: words(&data["name"]),
                    description: words(&data["description"]),
                    metadata: words(&data["metadata"]),
                    scopes: words(&data["scopes"]),
                    end: end(&data["expires_at"]),
                };
                let environment = words(&data["environment"]);
                Told {
                    tone: "good",
                    ..plain(&format!("created it for {environment}; it ends: {}", self.end))
                }
            }
            "KeyRenamed" => changed("renamed it", &mut self.name, words(&data["name"])),
            "KeyDescriptionChanged" => {
                changed("changed its description", &mut self.description, words(&data["description"]))
            }
            "KeyMetadataChanged" => {
                changed("changed its metadata", &mut self.metadata, words(&data["metadata"]))
            }
            "KeyScopesChanged" => changed("changed its scopes", &mut self.scopes, words(&data["scopes"])),
            "KeyExpiryChanged" => changed("changed when it ends", &mut self.end, end(&data["expires_at"])),
            "KeyRevoked" => {
                let reason = match data["reason"].as_str() {
                    Some("key_compromise") => ": leaked",
                    Some("superseded") => ": replaced",
                    Some("affiliation_changed") => ": its owner moved on",
                    Some("privilege_withdrawn") => ": its owner is no longer allowed",
                    _ => "",
                };
                Told { tone: "bad", ..plain(&format!("revoked it{reason}")) }
            }
            "KeyReactivated" => Told { tone: "good", ..plain("reactivated it") },
            "KeyRotated" => {
                let until = &data["previous_valid_until"];
                let token = format!("{}…{}", words(&data["start"]), words(&data["last_four"]));
                let sentence = if until.is_null() {
                    format!("gave it a new token, {token}; the one before stopped at once")
                } else {
                    format!("gave it a new token, {token}; the one before was accepted until {}", end(until))
                };
                plain(&sentence)
            }
            "KeyExpired" => Told { tone: "bad", ..plain("took note that its time had come") },
            "KeyDeleted" => Told { tone: "bad", ..plain("deleted it") },
            other => plain(other),
        }
    }
}

/// A value in words.
fn words(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "nothing".into(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// A time in words.
fn end(value: &Value) -> String {
    let time: Option<Timestamp> = value.as_str().and_then(|text| text.parse().ok());
    time.map_or_else(|| "never".into(), |time| Moment::new(time, time).exact())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(event_type: &str, data: Value) -> Event {
        serde_json::from_value(json!({
            "position": 1, "time": "2026-11-12T14:03:07.112Z", "type": event_type, "version": 1,
            "actor": { "kind": "root_key", "id": "rk_x", "ip": null, "user_agent": null }, "request_id": null, "data": data,
        }))
        .unwrap()
    }

    #[test]
    fn changes_are_told_with_what_was_before() {
        let mut known = Known::default();
        let created =
            json!({ "name": "prod", "environment": "production", "expires_at": null, "scopes": ["a:b"] });
        assert_eq!(
            known.tell(&event("KeyCreated", created)).sentence,
            "created it for production; it ends: never"
        );
        let renamed = known.tell(&event("KeyRenamed", json!({ "name": "Production" })));
        assert_eq!(renamed.change, Some(("prod".into(), "Production".into())));
        let cleared = known.tell(&event("KeyRenamed", json!({ "name": null })));
        assert_eq!(cleared.change, Some(("Production".into(), "nothing".into())));
        let scopes = known.tell(&event("KeyScopesChanged", json!({ "scopes": [] })));
        assert_eq!(scopes.change, Some(("a:b".into(), "nothing".into())));
    }

    #[test]
    fn the_old_token_counts_down_after_the_last_rotation_only() {
        let now: Timestamp = "2026-11-12T15:00:00Z".parse().unwrap();
        let rotated = |until: &str| event("KeyRotated", json!({ "previous_valid_until": until }));
        let until = |events: &[Event]| old_token_until(events, now).map(|until| until.relative());
        assert_eq!(until(&[rotated("2026-11-12T17:00:00.000Z")]), Some("in 2 hours".into()));
        assert_eq!(until(&[rotated("2026-11-12T17:00:00.000Z"), rotated("2026-11-12T14:00:00.000Z")]), None);
        assert_eq!(until(&[]), None);
    }
}
