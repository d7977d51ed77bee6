//! The state of a link between a partner and a client, as its events leave it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::record::Record;
use crate::domain::stream::StreamId;
use crate::value::id::ClientLinkId;
use crate::value::position::{Position, Version};
use crate::value::time::Timestamp;

/// A partner and a client as their events have left them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientLink {
    /// The two.
    pub id: ClientLinkId,
    /// The position of the event that linked them; none while they are not.
    pub since: Option<Position>,
    /// When they were linked last.
    pub linked_at: Timestamp,
    /// The id of the actor who did it.
    pub linked_by: Arc<str>,
    /// How many events they have.
    pub version: Version,
}

impl ClientLink {
    /// Whether the client is in the partner's portfolio. That it was deleted meanwhile does not show here.
    #[must_use]
    pub const fn is_linked(&self) -> bool {
        self.since.is_some()
    }

    /// Whether a key that was created at a position lives by this link: linking again does not bring back the keys of
    /// an earlier time.
    #[must_use]
    pub fn carries(&self, created: Position) -> bool {
        self.since.is_some_and(|since| since < created)
    }

    /// The link after `record`, which must be of its stream; `None` comes back when it does not fit.
    #[must_use]
    pub fn apply(link: Option<Self>, record: &Record) -> Option<Self> {
        let StreamId::ClientLink(id) = &record.stream else { return None };
        let linked = link.as_ref().is_some_and(Self::is_linked);
        match (link, &record.event) {
            (_, Event::ClientLinked(facts, ())) if !linked && facts.client_id == id.client_id => Some(Self {
                id: id.clone(),
                since: Some(record.position),
                linked_at: record.time,
                linked_by: record.actor.id.clone(),
                version: record.version,
            }),
            (Some(link), Event::ClientUnlinked(facts, ())) if linked && facts.client_id == id.client_id => {
                Some(Self { since: None, version: record.version, ..link })
            }
            _ => None,
        }
    }
}
