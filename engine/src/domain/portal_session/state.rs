//! The state of a portal session, as its events leave it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::portal_session::Minter;
use crate::domain::record::{Personal, Record};
use crate::domain::stream::StreamId;
use crate::value::actor::ActorKind;
use crate::value::id::{OrganizationId, PortalSessionId};
use crate::value::position::Version;
use crate::value::role::Role;
use crate::value::text::UserId;
use crate::value::time::Timestamp;
use crate::value::token::Digest;

/// The status of a portal session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortalSessionStatus {
    /// Its link was not followed yet.
    Pending,
    /// It was started.
    Active,
    /// It was ended.
    Ended,
    /// It or its link has expired.
    Expired,
}

impl PortalSessionStatus {
    /// The name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Ended => "ended",
            Self::Expired => "expired",
        }
    }
}

/// A portal session, as its events leave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalSession {
    /// Its id.
    pub id: PortalSessionId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// The user, as the organization names them.
    pub user_id: Option<UserId>,
    /// The person's role.
    pub role: Role,
    /// The digest of the link's secret.
    pub link_digest: Digest,
    /// Its lifetime from its start, in seconds.
    pub lifetime_seconds: u32,
    /// The time at which it ends at the latest, if the credential that minted it expires.
    pub ends_by: Option<Timestamp>,
    /// Digest of the session's secret; none before it started.
    pub digest: Option<Digest>,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The kind of actor that created it.
    pub created_by_kind: ActorKind,
    /// The id of the actor that created it.
    pub created_by: Arc<str>,
    /// The time of its start.
    pub started_at: Option<Timestamp>,
    /// The time at which it expires: the link's before it is followed, the session's after.
    pub expires_at: Timestamp,
    /// The time at which it was ended, if before that.
    pub ended_at: Option<Timestamp>,
    /// Whether the person was erased. The session has ended then, because its user is unknown.
    pub is_erased: bool,
    /// The number of its events.
    pub version: Version,
}

impl PortalSession {
    /// The status at `now`.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> PortalSessionStatus {
        if self.ended_at.is_some() || self.is_erased {
            PortalSessionStatus::Ended
        } else if now >= self.expires_at {
            PortalSessionStatus::Expired
        } else if self.started_at.is_some() {
            PortalSessionStatus::Active
        } else {
            PortalSessionStatus::Pending
        }
    }

    /// The credential that minted it, if it ends with that.
    #[must_use]
    pub fn minter(&self) -> Option<Minter> {
        Minter::of(self.created_by_kind, &self.created_by)
    }

    /// The session with an end no later than `end`.
    #[must_use]
    pub fn ending_by(mut self, end: Timestamp) -> Self {
        self.ends_by = Some(self.ends_by.map_or(end, |earlier| earlier.min(end)));
        self.expires_at = self.expires_at.min(end);
        self
    }

    fn not_past_its_end(&self, end: Timestamp) -> Timestamp {
        self.ends_by.map_or(end, |latest| latest.min(end))
    }

    /// Returns the session after `record`, which must be of its stream, or `None` when the record does not
    /// fit.
    #[must_use]
    pub fn apply(session: Option<Self>, record: &Record) -> Option<Self> {
        let StreamId::PortalSession(id) = record.stream else { return None };
        let mut session = match (session, &record.event) {
            (None, Event::PortalSessionCreated(facts, personal)) => {
                let session = Self {
                    id,
                    organization_id: record.organization_id.clone()?,
                    user_id: personal.user_id.clone(),
                    role: facts.role,
                    link_digest: facts.digest,
                    lifetime_seconds: facts.lifetime_seconds,
                    ends_by: facts.ends_by,
                    digest: None,
                    created_at: record.time,
                    created_by_kind: record.actor.kind,
                    created_by: record.actor.id.clone(),
                    started_at: None,
                    expires_at: facts.link_expires_at,
                    ended_at: None,
                    is_erased: record.personal == Personal::Erased,
                    version: record.version,
                };
                let expires_at = session.not_past_its_end(facts.link_expires_at);
                return Some(Self { expires_at, ..session });
            }
            (None, _) => return None,
            (Some(session), _) => session,
        };
        match &record.event {
            Event::PortalSessionStarted(facts, ()) => {
                session.digest = Some(facts.digest);
                session.started_at = Some(record.time);
                session.expires_at = session.not_past_its_end(facts.expires_at);
            }
            Event::PortalSessionEnded(..) => session.ended_at = Some(record.time),
            _ => return None,
        }
        session.version = record.version;
        Some(session)
    }
}
