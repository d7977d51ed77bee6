//! The record: an event with its position, its time and its actor.

use super::event::Event;
use super::stream::StreamId;
use crate::value::actor::Actor;
use crate::value::id::{EventId, OrganizationId};
use crate::value::position::{Position, Version};
use crate::value::time::Timestamp;

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
