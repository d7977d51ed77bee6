//! The record: an event with its position, time and actor.

use super::event::Event;
use super::stream::StreamId;
use crate::value::actor::Actor;
use crate::value::id::{EventId, OrganizationId};
use crate::value::position::{Position, Version};
use crate::value::time::Timestamp;

/// An event as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The place in the log.
    pub position: Position,
    /// The id of the event.
    pub id: EventId,
    /// The time of the append; never before the time of the previous record.
    pub time: Timestamp,
    /// The aggregate that the event happened to.
    pub stream: StreamId,
    /// The place in that aggregate's stream, from 1.
    pub version: Version,
    /// The organization that the event concerns, if any.
    pub organization_id: Option<OrganizationId>,
    /// The caller that issued the command.
    pub actor: Actor,
    /// The id of the request that carried the command.
    pub request_id: Option<Box<str>>,
    /// The event that led to this one, if Keyledger itself issued the command because of it.
    pub causation: Option<EventId>,
    /// The event. If the personal part was erased, the texts in it and the actor's origin are absent.
    pub event: Event,
    /// Whether the personal part could be read.
    pub personal: Personal,
}

/// The state of a record's personal part: the texts of its event, and the address and user agent of its
/// actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Personal {
    /// Everything that was written can be read.
    Readable,
    /// Nothing can be read: the key that seals it is not in the vault, because it was destroyed or because
    /// the record was read without the vault.
    Erased,
}
