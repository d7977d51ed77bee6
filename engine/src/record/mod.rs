//! The record: an event with its place, its time and its actor, and how it becomes bytes.

mod encoding;
mod stream;
mod upcast;

pub use encoding::{Error, decode, decode_with, encode, encode_with};
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
    /// What happened. Of a personal part that cannot be read any more, it and the actor have nothing.
    pub event: Event,
    /// Whether the personal part could be read.
    pub personal: Personal,
}

/// What there is of the personal part of a record: the texts of its event, and where its actor called from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Personal {
    /// All that was written.
    Readable,
    /// Nothing: the key that it was sealed with is not in the vault, because it was destroyed, or because the vault is not
    /// at hand.
    Erased,
}

/// No entry is larger: a bundle of entries states each one's length in 16 bits (C2SP tlog-tiles, "Log entries").
pub const ENTRY_LEN_MAX: usize = 65_535;

#[cfg(test)]
mod tests;
