//! The portal sessions that count. They end without an event when their time is over.

use std::collections::{BTreeSet, HashMap};

use keyledger_engine::value::id::{OrganizationId, PortalSessionId};
use keyledger_engine::value::time::Timestamp;

/// Sessions that have neither ended nor expired.
#[derive(Default)]
pub(super) struct Sessions {
    by_id: HashMap<PortalSessionId, (OrganizationId, Timestamp)>,
    by_end: BTreeSet<(Timestamp, PortalSessionId)>,
}

impl Sessions {
    /// Adds a session, or gives it another end. Returns whether it counted before.
    pub(super) fn begin(&mut self, id: PortalSessionId, of: OrganizationId, end: Timestamp) -> bool {
        let before = self.by_id.insert(id, (of, end));
        if let Some((_, end)) = &before {
            self.by_end.remove(&(*end, id));
        }
        self.by_end.insert((end, id));
        before.is_some()
    }

    /// Ends a session, and returns its organization if it counted.
    pub(super) fn end(&mut self, id: PortalSessionId) -> Option<OrganizationId> {
        let (organization_id, end) = self.by_id.remove(&id)?;
        self.by_end.remove(&(end, id));
        Some(organization_id)
    }

    /// Ends one session that has expired at `now`, and returns its organization.
    pub(super) fn next_expired(&mut self, now: Timestamp) -> Option<OrganizationId> {
        let (_, id) = self.by_end.first().copied().filter(|(end, _)| *end <= now)?;
        self.end(id)
    }
}
