//! The state of a link between a partner and a client, as its events leave it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::record::Record;
use crate::domain::stream::StreamId;
use crate::value::id::ClientLinkId;
use crate::value::position::{Position, Version};
use crate::value::time::Timestamp;

/// The link between a partner and a client. It stays, unlinked, when the client leaves the portfolio.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientLink {
    /// The ids of both.
    pub id: ClientLinkId,
    /// The position of the event that linked them; none while they are not.
    pub since: Option<Position>,
    /// The time of the last link.
    pub linked_at: Timestamp,
    /// The id of the actor that linked them last.
    pub linked_by: Arc<str>,
    /// The number of its events.
    pub version: Version,
}

impl ClientLink {
    /// Whether the client is linked. A deleted client is not unlinked, so its status has to be checked as
    /// well.
    #[must_use]
    pub const fn is_linked(&self) -> bool {
        self.since.is_some()
    }

    /// Whether a key that was created at a position depends on this link. Linking again does not revive keys
    /// that were created before.
    #[must_use]
    pub fn carries(&self, created: Position) -> bool {
        self.since.is_some_and(|since| since < created)
    }

    /// Returns the link after `record`, which must be of its stream, or `None` when the record does not fit.
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
