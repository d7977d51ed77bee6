//! The use of portal sessions: when each was last used, and which have been unused for too long. Use is in
//! memory only. After a restart a session counts as used at the start, unless it began later.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use keyledger_engine::domain::portal_session::PortalSession;
use keyledger_engine::value::id::PortalSessionId;
use keyledger_engine::value::time::Timestamp;

use crate::auth::session_limits::millis;

/// Marks a request that a page's script sends by itself while nobody may be there.
const UNATTENDED: HeaderName = HeaderName::from_static("console-unattended");
const EVENT_STREAM: &[u8] = b"text/event-stream";

/// Whether a request shows that a person uses the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit {
    /// A person caused the request.
    Attended,
    /// An open page or an event stream caused it, which also happens while nobody is there.
    Unattended,
}

impl Visit {
    /// Reads from a request's headers who caused it. A script that lies about it shortens its own session or
    /// behaves as a person could.
    #[must_use]
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let accepts_stream =
            headers.get(header::ACCEPT).map(HeaderValue::as_bytes).is_some_and(|it| it == EVENT_STREAM);
        if accepts_stream || headers.contains_key(UNATTENDED) { Self::Unattended } else { Self::Attended }
    }
}

/// When portal sessions were last used.
pub(crate) struct SessionUse {
    idle_millis_max: i64,
    /// The start of the service.
    since: Timestamp,
    used: Mutex<HashMap<PortalSessionId, Timestamp>>,
}

impl SessionUse {
    #[must_use]
    pub(crate) fn new(idle_max: Duration, since: Timestamp) -> Self {
        Self { idle_millis_max: millis(idle_max), since, used: Mutex::default() }
    }

    /// How long a session may be unused.
    #[must_use]
    pub(crate) fn idle_max(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.idle_millis_max).unwrap_or(u64::MAX))
    }

    /// Whether a session has been used lately, so that a request may use it at `now`. An attended request
    /// counts as a use.
    #[must_use]
    pub(crate) fn admits(&self, session: &PortalSession, visit: Visit, now: Timestamp) -> bool {
        if now >= self.idle_at(session) {
            return false;
        }
        if visit == Visit::Attended {
            self.used().insert(session.id, now);
        }
        true
    }

    /// Returns the time at which a started session has been unused for too long.
    #[must_use]
    pub(crate) fn idle_at(&self, session: &PortalSession) -> Timestamp {
        let used_at = self.used().get(&session.id).copied();
        let begun_at = session.started_at.unwrap_or(session.created_at).max(self.since);
        used_at.unwrap_or(begun_at).saturating_add_millis(self.idle_millis_max)
    }

    /// Forgets all sessions but these.
    pub(crate) fn retain(&self, sessions: &HashSet<PortalSessionId>) {
        self.used().retain(|id, _| sessions.contains(id));
    }

    fn used(&self) -> MutexGuard<'_, HashMap<PortalSessionId, Timestamp>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_scripts_are_no_use() {
        let visit = |name: HeaderName, value: &'static str| {
            Visit::of(&HeaderMap::from_iter([(name, HeaderValue::from_static(value))]))
        };
        assert_eq!(visit(header::ACCEPT, "text/event-stream"), Visit::Unattended);
        assert_eq!(visit(UNATTENDED, "1"), Visit::Unattended);
        assert_eq!(visit(header::ACCEPT, "text/html"), Visit::Attended);
    }
}
