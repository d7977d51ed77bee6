//! The rules of a portal session: the events that each command leads to in each state.

use crate::domain::decision::{Context, Decide, Reads};
use crate::domain::event::Event;
use crate::domain::organization::{Organization, OrganizationStatus};
use crate::domain::portal_session::{
    PortalSession, PortalSessionCommand, PortalSessionCreatedPersonal, PortalSessionEnded,
    PortalSessionStarted, PortalSessionStatus,
};
use crate::domain::rejection::Rejection;
use crate::value::id::{OrganizationId, PortalSessionId};
use crate::value::subject::Subject;
use crate::value::time::Timestamp;

impl Decide for PortalSession {
    fn organization_id<'a>(
        _id: &'a PortalSessionId,
        session: Option<&'a Self>,
        command: &'a PortalSessionCommand,
    ) -> Option<&'a OrganizationId> {
        match (session, command) {
            (Some(session), _) => Some(&session.organization_id),
            (None, PortalSessionCommand::Create { organization_id, .. }) => Some(organization_id),
            (None, _) => None,
        }
    }

    fn subject(id: &PortalSessionId, session: Option<&Self>, command: &PortalSessionCommand) -> Subject {
        let user_id = match (session, command) {
            (Some(session), _) => session.user_id.as_ref(),
            (None, PortalSessionCommand::Create { user_id, .. }) => user_id.as_ref(),
            (None, _) => None,
        };
        Subject::of(Self::organization_id(id, session, command), user_id)
    }

    fn reads<'a>(
        id: &'a PortalSessionId,
        session: Option<&'a Self>,
        command: &'a PortalSessionCommand,
    ) -> Reads<'a> {
        Reads::organization(Self::organization_id(id, session, command))
    }

    fn decide(
        _id: &PortalSessionId,
        session: Option<&Self>,
        command: &PortalSessionCommand,
        context: &Context<'_>,
        now: Timestamp,
    ) -> Result<Vec<Event>, Rejection> {
        decide(session, context.organization, command, now)
    }
}

/// Returns the events that `command` leads to. `organization` is the one that the session belongs to or,
/// before it is created, will belong to.
///
/// # Errors
/// The rule that rejects the command.
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
            let mut facts = facts.clone();
            facts.link_expires_at = earlier(facts.link_expires_at, facts.ends_by);
            return Ok(vec![Event::PortalSessionCreated(facts, personal)]);
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
            let end = now.saturating_add_millis(i64::from(session.lifetime_seconds) * 1_000);
            let expires_at = earlier(end, session.ends_by);
            Ok(vec![Event::PortalSessionStarted(PortalSessionStarted { digest: *digest, expires_at }, ())])
        }
        (PortalSessionCommand::End { reason }, _) => {
            Ok(vec![Event::PortalSessionEnded(PortalSessionEnded { reason: *reason }, ())])
        }
        (PortalSessionCommand::Create { .. }, _) => Err(Rejection::PortalSessionExists),
    }
}

fn earlier(end: Timestamp, latest: Option<Timestamp>) -> Timestamp {
    latest.map_or(end, |latest| latest.min(end))
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
    use crate::domain::portal_session::{EndReason, PortalSessionCreated};
    use crate::domain::record::{Personal, Record};
    use crate::domain::stream::StreamId;
    use crate::value::actor::Actor;
    use crate::value::id::EventId;
    use crate::value::position::{Position, Version};
    use crate::value::role::Role;
    use crate::value::text::UserId;
    use crate::value::token::Digest;

    const CREATED: Timestamp = Timestamp::from_millis(1_000_000);
    const START: PortalSessionCommand = PortalSessionCommand::Start { digest: Digest::from_bytes([2; 32]) };
    const END: PortalSessionCommand = PortalSessionCommand::End { reason: EndReason::SignedOut };

    fn acme(deleted: bool) -> Organization {
        Organization {
            id: "acme".parse().unwrap(),
            name: None,
            kind: OrganizationKind::Paid,
            created_at: CREATED,
            deleted_at: deleted.then_some(CREATED),
            policies: crate::domain::policy::Policies::default(),
            version: Version::new(1),
        }
    }

    fn create(role: Role, user_id: Option<&str>) -> PortalSessionCommand {
        let facts = PortalSessionCreated {
            digest: Digest::from_bytes([1; 32]),
            role,
            link_expires_at: CREATED.saturating_add_millis(60_000),
            lifetime_seconds: 600,
            ends_by: None,
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
        let created = after(None, &create(Role::Admin, None), CREATED);
        let late = CREATED.saturating_add_millis(60_000);
        assert_eq!(refusal(&created, &START, late), Rejection::PortalSessionEnded);
        let in_time = late.saturating_add_millis(-1);
        let started = after(Some(created), &START, in_time);
        assert_eq!(started.expires_at, in_time.saturating_add_millis(600_000));
        assert_eq!(refusal(&started, &START, in_time), Rejection::PortalLinkUsed);
        assert_eq!(started.status(started.expires_at), PortalSessionStatus::Expired);
        assert_eq!(refusal(&started, &END, started.expires_at), Rejection::PortalSessionEnded);
        let ended = after(Some(started), &END, in_time);
        assert_eq!(refusal(&ended, &END, in_time), Rejection::PortalSessionEnded);
        assert_eq!(refusal(&ended, &START, in_time), Rejection::PortalSessionEnded);
    }

    #[test]
    fn a_link_and_its_session_end_no_later_than_their_minter() {
        let PortalSessionCommand::Create { organization_id, user_id, mut facts } = create(Role::Owner, None)
        else {
            panic!("it creates")
        };
        let after_created = |millis| CREATED.saturating_add_millis(millis);
        facts.ends_by = Some(after_created(30_000));
        let create = |facts: &PortalSessionCreated| PortalSessionCommand::Create {
            organization_id: organization_id.clone(),
            user_id: user_id.clone(),
            facts: facts.clone(),
        };
        let created = after(None, &create(&facts), CREATED);
        assert_eq!(created.expires_at, after_created(30_000), "the link alone would last a minute");
        assert_eq!(refusal(&created, &START, after_created(30_000)), Rejection::PortalSessionEnded);
        let started = after(Some(created), &START, after_created(29_999));
        assert_eq!(started.expires_at, after_created(30_000), "the session alone would last ten minutes");
        facts.ends_by = Some(after_created(700_000));
        let created = after(None, &create(&facts), CREATED);
        assert_eq!(created.expires_at, after_created(60_000));
        assert_eq!(after(Some(created), &START, CREATED).expires_at, after_created(600_000));
    }

    #[test]
    fn a_link_is_for_an_organization_that_is_there_and_a_member_for_a_user() {
        let create_member = create(Role::Member, None);
        let refused = decide(None, Some(&acme(false)), &create_member, CREATED);
        assert_eq!(refused, Err(Rejection::UserRequired(Role::Member)));
        assert!(decide(None, Some(&acme(false)), &create(Role::Member, Some("u1")), CREATED).is_ok());
        let create = create(Role::Owner, None);
        assert_eq!(decide(None, None, &create, CREATED), Err(Rejection::OrganizationUnknown));
        assert_eq!(decide(None, Some(&acme(true)), &create, CREATED), Err(Rejection::OrganizationDeleted));
        let created = after(None, &create, CREATED);
        let refused = decide(Some(&created), Some(&acme(true)), &START, CREATED);
        assert_eq!(refused, Err(Rejection::OrganizationDeleted));
    }
}
