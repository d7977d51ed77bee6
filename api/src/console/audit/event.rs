//! An event as the API returns it.

use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Event {
    pub position: u64,
    /// The time when the event was appended.
    pub time: Timestamp,
    #[serde(rename = "type")]
    pub event_type: String,
    /// The event's number in its stream, from 1.
    pub version: u32,
    pub stream: Stream,
    pub organization_id: Option<String>,
    pub actor: Actor,
    pub request_id: Option<String>,
    /// The event's own fields.
    pub data: Value,
}

/// The object that an event belongs to.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Stream {
    /// `key`, `organization` and so on.
    pub kind: String,
    pub id: String,
}

/// The issuer of the command behind an event.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Actor {
    /// `root_key`, `application`, `portal_session`, `user` or `system`.
    pub kind: String,
    pub id: String,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
}
