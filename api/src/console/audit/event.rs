//! An event as the API returns it.

use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// An event as the calls answer it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Event {
    /// Its place in the log.
    pub position: u64,
    /// When it was appended.
    pub time: Timestamp,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Its place among the events of the object that it happened to.
    pub version: u32,
    /// The object that it happened to.
    pub stream: Stream,
    /// The organization concerned.
    pub organization_id: Option<String>,
    /// Who did it.
    pub actor: Actor,
    /// The request that carried the command.
    pub request_id: Option<String>,
    /// What there is to say of it.
    pub data: Value,
}

/// The object that an event happened to.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Stream {
    /// What it is: `key`, `organization` and so on.
    pub kind: String,
    /// Its id.
    pub id: String,
}

/// Who did something, as an event tells it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Actor {
    /// The kind of actor.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// The address that the command came from.
    pub ip: Option<String>,
    /// The program that sent it.
    pub user_agent: Option<String>,
}
