//! The portfolio of a partner: the client organizations that are linked to it.
//!
//! Each pair of partner and client is an aggregate of its own, so that a portfolio may be of any size: linking one client
//! costs the same whether there are ten others or a hundred thousand.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::organization::{Organization, OrganizationKind, OrganizationStatus};
use crate::domain::record::Record;
use crate::domain::rejection::Rejection;
use crate::domain::stream::StreamId;
use crate::value::id::{ClientLinkId, OrganizationId};
use crate::value::position::{Position, Version};
use crate::value::time::Timestamp;

/// A client came into a partner's portfolio.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientLinked {
    /// The client organization.
    pub client_id: OrganizationId,
}

/// A client left a partner's portfolio, and every key that the partner made for it stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientUnlinked {
    /// The client organization.
    pub client_id: OrganizationId,
}

/// What can be asked of a partner and a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientLinkCommand {
    /// Put the client into the partner's portfolio.
    Link,
    /// Take it out, and with it every key that the partner made for it, at that moment.
    Unlink,
}

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

/// All that a decision about a partner and a client looks at.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientLinkState<'a> {
    /// The two, unless they never were linked.
    pub link: Option<&'a ClientLink>,
    /// The partner.
    pub partner: Option<&'a Organization>,
    /// The client.
    pub client: Option<&'a Organization>,
}

/// Says what `command` leads to: the events to append, none when nothing changes.
///
/// # Errors
/// The rule that refuses the command.
pub fn decide(
    id: &ClientLinkId,
    state: ClientLinkState<'_>,
    command: ClientLinkCommand,
) -> Result<Vec<Event>, Rejection> {
    let linked = state.link.is_some_and(ClientLink::is_linked);
    let client_id = id.client_id.clone();
    match command {
        ClientLinkCommand::Link => {
            let partner = active(state.partner)?;
            if partner.kind != OrganizationKind::Partner {
                return Err(Rejection::NotAPartner(partner.kind));
            }
            if id.client_id == id.partner_id {
                return Err(Rejection::ClientIsPartner);
            }
            active(state.client)?;
            Ok(if linked { Vec::new() } else { vec![Event::ClientLinked(ClientLinked { client_id }, ())] })
        }
        ClientLinkCommand::Unlink if linked => {
            Ok(vec![Event::ClientUnlinked(ClientUnlinked { client_id }, ())])
        }
        ClientLinkCommand::Unlink => Err(Rejection::ClientNotLinked),
    }
}

fn active(organization: Option<&Organization>) -> Result<&Organization, Rejection> {
    match organization {
        None => Err(Rejection::OrganizationUnknown),
        Some(it) if it.status() == OrganizationStatus::Deleted => Err(Rejection::OrganizationDeleted),
        Some(it) => Ok(it),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn organization(id: &str, kind: OrganizationKind, deleted: bool) -> Organization {
        Organization {
            id: id.parse().unwrap(),
            name: None,
            kind,
            created_at: Timestamp::from_millis(0),
            deleted_at: deleted.then_some(Timestamp::from_millis(1)),
            policies: crate::domain::policy::Policies::default(),
            version: Version::new(1),
        }
    }

    fn id() -> ClientLinkId {
        ClientLinkId { partner_id: "partner".parse().unwrap(), client_id: "client".parse().unwrap() }
    }

    fn link(since: Option<u64>) -> ClientLink {
        ClientLink {
            id: id(),
            since: since.map(Position::new),
            linked_at: Timestamp::from_millis(0),
            linked_by: "system".into(),
            version: Version::new(1),
        }
    }

    #[test]
    fn only_an_active_partner_takes_active_clients() {
        use OrganizationKind::{Free, Paid, Partner};
        let client = organization("client", Free, false);
        let decide_for = |kind, deleted| {
            let partner = organization("partner", kind, deleted);
            let state = ClientLinkState { link: None, partner: Some(&partner), client: Some(&client) };
            decide(&id(), state, ClientLinkCommand::Link)
        };
        assert_eq!(decide_for(Partner, false).unwrap().len(), 1);
        assert_eq!(decide_for(Partner, true), Err(Rejection::OrganizationDeleted));
        assert_eq!(decide_for(Paid, false), Err(Rejection::NotAPartner(Paid)));

        let partner = organization("partner", Partner, false);
        let gone = organization("client", Paid, true);
        let state = |client| ClientLinkState { link: None, partner: Some(&partner), client };
        assert_eq!(
            decide(&id(), state(Some(&gone)), ClientLinkCommand::Link),
            Err(Rejection::OrganizationDeleted)
        );
        assert_eq!(decide(&id(), state(None), ClientLinkCommand::Link), Err(Rejection::OrganizationUnknown));
        let itself = ClientLinkId { client_id: id().partner_id, ..id() };
        let refused = decide(&itself, state(Some(&partner)), ClientLinkCommand::Link);
        assert_eq!(refused, Err(Rejection::ClientIsPartner));
    }

    #[test]
    fn linking_twice_changes_nothing_and_unlinking_needs_a_link() {
        let partner = organization("partner", OrganizationKind::Partner, false);
        let client = organization("client", OrganizationKind::Paid, false);
        let (linked, unlinked) = (link(Some(3)), link(None));
        let state =
            |link| ClientLinkState { link: Some(link), partner: Some(&partner), client: Some(&client) };
        assert_eq!(decide(&id(), state(&linked), ClientLinkCommand::Link), Ok(Vec::new()));
        assert_eq!(decide(&id(), state(&linked), ClientLinkCommand::Unlink).unwrap().len(), 1);
        assert_eq!(decide(&id(), state(&unlinked), ClientLinkCommand::Link).unwrap().len(), 1);
        let refused = decide(&id(), state(&unlinked), ClientLinkCommand::Unlink);
        assert_eq!(refused, Err(Rejection::ClientNotLinked));
    }

    #[test]
    fn a_link_carries_only_keys_made_during_it() {
        assert!(link(Some(3)).carries(Position::new(4)));
        assert!(!link(Some(3)).carries(Position::new(2)));
        assert!(!link(None).carries(Position::new(4)));
    }
}
