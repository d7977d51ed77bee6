//! The record: an event with its place, its time and its actor, and how it becomes bytes.

mod encoding;
mod stream;
mod upcast;

pub use encoding::{Error, decode, encode};
pub use stream::{StreamId, StreamKind};

use crate::actor::Actor;
use crate::event::Event;
use crate::id::{EventId, OrganizationId};
use crate::position::{Position, Version};
use crate::time::Timestamp;

/// An event as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log.
    pub position: Position,
    /// Its id.
    pub id: EventId,
    /// When it was appended; never before the time of the record at the position before.
    pub time: Timestamp,
    /// The aggregate that it happened to.
    pub stream: StreamId,
    /// Its place in that aggregate's stream, from 1.
    pub version: Version,
    /// The organization concerned, if one.
    pub organization_id: Option<OrganizationId>,
    /// Who issued the command.
    pub actor: Actor,
    /// The request that carried the command.
    pub request_id: Option<Box<str>>,
    /// The event that led to this one, if Keyledger itself issued the command because of it.
    pub causation: Option<EventId>,
    /// What happened.
    pub event: Event,
}

/// No entry is larger: a bundle of entries states each one's length in 16 bits (C2SP tlog-tiles, "Log entries").
pub const ENTRY_LEN_MAX: usize = 65_535;

#[cfg(test)]
mod tests;
