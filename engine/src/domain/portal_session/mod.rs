//! The portal session: a person's stay at the self-service portal of an organization. Somebody with the permission mints
//! a link for it; the link, followed once and in time, starts the session; the session ends by itself, by signing out, or
//! by being revoked.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::organization::{Organization, OrganizationStatus};
use crate::domain::record::{Personal, Record};
use crate::domain::rejection::Rejection;
use crate::domain::stream::StreamId;
use crate::value::id::{OrganizationId, PortalSessionId};
use crate::value::position::Version;
use crate::value::role::Role;
use crate::value::text::UserId;
use crate::value::time::Timestamp;
use crate::value::token::Digest;

/// Why a session ended before its time. The numbers are stored (docs/format.md) and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndReason {
    /// The person signed out.
    SignedOut,
    /// Somebody else ended it.
    Revoked,
}

impl EndReason {
    const TABLE: [(Self, u8, &'static str); 2] =
        [(Self::SignedOut, 0, "signed_out"), (Self::Revoked, 1, "revoked")];
}

crate::value::stored_enum::stored_enum!(EndReason, "reason for a portal session's end");

/// A link to a portal session was minted. The organization is the record's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalSessionCreated {
    /// Digest of the link's secret.
    pub digest: Digest,
    /// What the person may do.
    pub role: Role,
    /// Until when the link can be followed.
    pub link_expires_at: Timestamp,
    /// How long the session lasts once it was started, in seconds.
    pub lifetime_seconds: u32,
}

/// The personal part of [`PortalSessionCreated`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalSessionCreatedPersonal {
    /// Who the person is, as the organization names them.
    pub user_id: Option<UserId>,
}

/// The link was followed; it is good for nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalSessionStarted {
    /// Digest of the session's secret.
    pub digest: Digest,
    /// When the session ends by itself.
    pub expires_at: Timestamp,
}

/// The session, or a link that nobody followed, was ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalSessionEnded {
    /// Why.
    pub reason: EndReason,
}

/// What can be asked of a portal session.
#[derive(Debug, Clone)]
pub enum PortalSessionCommand {
    /// Mint a link to it.
    Create {
        /// The organization.
        organization_id: OrganizationId,
        /// Who the person is.
        user_id: Option<UserId>,
        /// The facts to record.
        facts: PortalSessionCreated,
    },
    /// Follow the link.
    Start {
        /// Digest of the session's secret.
        digest: Digest,
    },
    /// End it.
    End {
        /// Why.
        reason: EndReason,
    },
}

/// Where a portal session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortalSessionStatus {
    /// Its link waits to be followed.
    Pending,
    /// It was started.
    Active,
    /// It was ended.
    Ended,
    /// Its time has come, or its link's.
    Expired,
}

impl PortalSessionStatus {
    /// The name that is shown.
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

/// A portal session as its events have left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalSession {
    /// Its id.
    pub id: PortalSessionId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// Who the person is.
    pub user_id: Option<UserId>,
    /// What the person may do.
    pub role: Role,
    /// Digest of the link's secret.
    pub link_digest: Digest,
    /// How long it lasts once it was started, in seconds.
    pub lifetime_seconds: u32,
    /// Digest of the session's secret, once it was started.
    pub digest: Option<Digest>,
    /// When it was minted.
    pub created_at: Timestamp,
    /// The id of the actor who minted it.
    pub created_by: Arc<str>,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it ends by itself: the link, as long as nobody followed it, and the session since.
    pub expires_at: Timestamp,
    /// When it was ended before that.
    pub ended_at: Option<Timestamp>,
    /// Whether the person was erased: whose session it is can no longer be told, so it is nobody's.
    pub is_erased: bool,
    /// How many events it has.
    pub version: Version,
}

impl PortalSession {
    /// Where it stands at `now`.
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

    /// The session after `record`, which must be of its stream; `None` comes back when it does not fit.
    #[must_use]
    pub fn apply(session: Option<Self>, record: &Record) -> Option<Self> {
        let StreamId::PortalSession(id) = record.stream else { return None };
        let mut session = match (session, &record.event) {
            (None, Event::PortalSessionCreated(facts, personal)) => {
                return Some(Self {
                    id,
                    organization_id: record.organization_id.clone()?,
                    user_id: personal.user_id.clone(),
                    role: facts.role,
                    link_digest: facts.digest,
                    lifetime_seconds: facts.lifetime_seconds,
                    digest: None,
                    created_at: record.time,
                    created_by: record.actor.id.clone(),
                    started_at: None,
                    expires_at: facts.link_expires_at,
                    ended_at: None,
                    is_erased: record.personal == Personal::Erased,
                    version: record.version,
                });
            }
            (None, _) => return None,
            (Some(session), _) => session,
        };
        match &record.event {
            Event::PortalSessionStarted(facts, ()) => {
                session.digest = Some(facts.digest);
                session.started_at = Some(record.time);
                session.expires_at = facts.expires_at;
            }
            Event::PortalSessionEnded(..) => session.ended_at = Some(record.time),
            _ => return None,
        }
        session.version = record.version;
        Some(session)
    }
}

/// Says what `command` leads to: the events to append. `organization` is the session's, or the one that it is to be for.
///
/// # Errors
/// The rule that refuses the command.
pub fn decide(
    session: Option<&PortalSession>,
    organization: Option<&Organization>,
    command: &PortalSessionCommand,
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let session = match (session, command) {
        (None, PortalSessionCommand::Create { user_id, facts, .. }) => {
            check_organization(organization)?;
            if facts.role.sees_own_keys_only() && user_id.is_none() {
                return Err(Rejection::UserRequired(facts.role));
            }
            let personal = PortalSessionCreatedPersonal { user_id: user_id.clone() };
            return Ok(vec![Event::PortalSessionCreated(facts.clone(), personal)]);
        }
        (None, _) => return Err(Rejection::PortalSessionUnknown),
        (Some(_), PortalSessionCommand::Create { .. }) => return Err(Rejection::PortalSessionExists),
        (Some(session), _) => session,
    };
    match (command, session.status(now)) {
        (_, PortalSessionStatus::Ended | PortalSessionStatus::Expired) => Err(Rejection::PortalSessionEnded),
        (PortalSessionCommand::Start { .. }, PortalSessionStatus::Active) => Err(Rejection::PortalLinkUsed),
        (PortalSessionCommand::Start { digest }, _) => {
            check_organization(organization)?;
            let expires_at = now.saturating_add_millis(i64::from(session.lifetime_seconds) * 1_000);
            Ok(vec![Event::PortalSessionStarted(PortalSessionStarted { digest: *digest, expires_at }, ())])
        }
        (PortalSessionCommand::End { reason }, _) => {
            Ok(vec![Event::PortalSessionEnded(PortalSessionEnded { reason: *reason }, ())])
        }
        (PortalSessionCommand::Create { .. }, _) => Err(Rejection::PortalSessionExists),
    }
}

fn check_organization(organization: Option<&Organization>) -> Result<(), Rejection> {
    match organization.map(Organization::status) {
        None => Err(Rejection::OrganizationUnknown),
        Some(OrganizationStatus::Deleted) => Err(Rejection::OrganizationDeleted),
        Some(OrganizationStatus::Active) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::organization::OrganizationKind;
    use crate::value::actor::Actor;
    use crate::value::id::EventId;
    use crate::value::position::Position;

    const MINTED: Timestamp = Timestamp::from_millis(1_000_000);
    const START: PortalSessionCommand = PortalSessionCommand::Start { digest: Digest::from_bytes([2; 32]) };
    const END: PortalSessionCommand = PortalSessionCommand::End { reason: EndReason::SignedOut };

    fn acme(deleted: bool) -> Organization {
        Organization {
            id: "acme".parse().unwrap(),
            name: None,
            kind: OrganizationKind::Paid,
            created_at: MINTED,
            deleted_at: deleted.then_some(MINTED),
            policies: crate::domain::policy::Policies::default(),
            version: Version::new(1),
        }
    }

    fn create(role: Role, user_id: Option<&str>) -> PortalSessionCommand {
        let facts = PortalSessionCreated {
            digest: Digest::from_bytes([1; 32]),
            role,
            link_expires_at: MINTED.saturating_add_millis(60_000),
            lifetime_seconds: 600,
        };
        let user_id = user_id.map(|user_id| UserId::new(user_id).unwrap());
        PortalSessionCommand::Create { organization_id: "acme".parse().unwrap(), user_id, facts }
    }

    fn after(
        session: Option<PortalSession>,
        command: &PortalSessionCommand,
        now: Timestamp,
    ) -> PortalSession {
        let mut events = decide(session.as_ref(), Some(&acme(false)), command, now).unwrap();
        let record = Record {
            position: Position::new(1),
            id: EventId::from_u128(1),
            time: now,
            stream: StreamId::PortalSession(PortalSessionId::from_u128(7)),
            version: Version::new(session.as_ref().map_or(0, |it| it.version.get()) + 1),
            organization_id: Some("acme".parse().unwrap()),
            actor: Actor::system(),
            request_id: None,
            causation: None,
            event: events.pop().unwrap(),
            personal: Personal::Readable,
        };
        PortalSession::apply(session, &record).unwrap()
    }

    fn refusal(session: &PortalSession, command: &PortalSessionCommand, now: Timestamp) -> Rejection {
        decide(Some(session), Some(&acme(false)), command, now).unwrap_err()
    }

    #[test]
    fn a_link_is_followed_once_and_in_time() {
        let minted = after(None, &create(Role::Admin, None), MINTED);
        let late = MINTED.saturating_add_millis(60_000);
        assert_eq!(refusal(&minted, &START, late), Rejection::PortalSessionEnded);
        let in_time = late.saturating_add_millis(-1);
        let started = after(Some(minted), &START, in_time);
        assert_eq!(started.expires_at, in_time.saturating_add_millis(600_000));
        assert_eq!(refusal(&started, &START, in_time), Rejection::PortalLinkUsed);
        assert_eq!(started.status(started.expires_at), PortalSessionStatus::Expired);
        assert_eq!(refusal(&started, &END, started.expires_at), Rejection::PortalSessionEnded);
        let ended = after(Some(started), &END, in_time);
        assert_eq!(refusal(&ended, &END, in_time), Rejection::PortalSessionEnded);
        assert_eq!(refusal(&ended, &START, in_time), Rejection::PortalSessionEnded);
    }

    #[test]
    fn a_link_is_for_an_organization_that_is_there_and_a_member_for_a_user() {
        let create_member = create(Role::Member, None);
        let refused = decide(None, Some(&acme(false)), &create_member, MINTED);
        assert_eq!(refused, Err(Rejection::UserRequired(Role::Member)));
        assert!(decide(None, Some(&acme(false)), &create(Role::Member, Some("u1")), MINTED).is_ok());
        let create = create(Role::Owner, None);
        assert_eq!(decide(None, None, &create, MINTED), Err(Rejection::OrganizationUnknown));
        assert_eq!(decide(None, Some(&acme(true)), &create, MINTED), Err(Rejection::OrganizationDeleted));
        let minted = after(None, &create, MINTED);
        let refused = decide(Some(&minted), Some(&acme(true)), &START, MINTED);
        assert_eq!(refused, Err(Rejection::OrganizationDeleted));
    }
}
