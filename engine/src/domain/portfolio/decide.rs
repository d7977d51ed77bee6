//! The rules of a link between a partner and a client: the events that each command leads to in each state.

use crate::domain::decision::{Context, Decide, Reads};
use crate::domain::event::Event;
use crate::domain::organization::{Organization, OrganizationKind, OrganizationStatus};
use crate::domain::portfolio::{ClientLink, ClientLinkCommand, ClientLinked, ClientUnlinked};
use crate::domain::rejection::Rejection;
use crate::value::id::{ClientLinkId, OrganizationId};
use crate::value::time::Timestamp;

/// Everything that a decision about a link reads.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientLinkState<'a> {
    /// The link; none if the two were never linked.
    pub link: Option<&'a ClientLink>,
    /// The partner.
    pub partner: Option<&'a Organization>,
    /// The client.
    pub client: Option<&'a Organization>,
}

impl Decide for ClientLink {
    fn organization_id<'a>(
        id: &'a ClientLinkId,
        _link: Option<&'a Self>,
        _command: &'a ClientLinkCommand,
    ) -> Option<&'a OrganizationId> {
        Some(&id.partner_id)
    }

    fn reads<'a>(
        id: &'a ClientLinkId,
        _link: Option<&'a Self>,
        _command: &'a ClientLinkCommand,
    ) -> Reads<'a> {
        let client = Some(id.client_id.clone().into());
        Reads { client, ..Reads::organization(Some(&id.partner_id)) }
    }

    fn decide(
        id: &ClientLinkId,
        link: Option<&Self>,
        command: &ClientLinkCommand,
        context: &Context<'_>,
        _now: Timestamp,
    ) -> Result<Vec<Event>, Rejection> {
        let state = ClientLinkState { link, partner: context.organization, client: context.client };
        decide(id, state, *command)
    }
}

/// Returns the events that `command` leads to, none when nothing changes.
///
/// # Errors
/// The rule that rejects the command.
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
