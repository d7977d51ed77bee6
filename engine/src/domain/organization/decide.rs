//! The rules of an organization: the events that each command leads to in each state.

use crate::domain::decision::{Context, Decide};
use crate::domain::event::Event;
use crate::domain::organization::{
    Organization, OrganizationCommand, OrganizationCreated, OrganizationKindChanged, OrganizationPersonal,
    OrganizationStatus,
};
use crate::domain::policy::{PolicyRemoved, PolicySet};
use crate::domain::rejection::Rejection;
use crate::value::id::OrganizationId;
use crate::value::time::Timestamp;

impl Decide for Organization {
    fn organization_id<'a>(
        id: &'a OrganizationId,
        _organization: Option<&'a Self>,
        _command: &'a OrganizationCommand,
    ) -> Option<&'a OrganizationId> {
        Some(id)
    }

    fn decide(
        _id: &OrganizationId,
        organization: Option<&Self>,
        command: &OrganizationCommand,
        _context: &Context<'_>,
        now: Timestamp,
    ) -> Result<Vec<Event>, Rejection> {
        decide(organization, command, now)
    }
}

/// Returns the events that `command` leads to, none when nothing changes.
///
/// # Errors
/// The rule that rejects the command.
pub fn decide(
    organization: Option<&Organization>,
    command: &OrganizationCommand,
    _now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let organization = match (organization, command) {
        (None, OrganizationCommand::Create { name, kind }) => {
            let personal = OrganizationPersonal { name: name.clone() };
            return Ok(vec![Event::OrganizationCreated(OrganizationCreated { kind: *kind }, personal)]);
        }
        (None, _) => return Err(Rejection::OrganizationUnknown),
        (Some(_), OrganizationCommand::Create { .. }) => return Err(Rejection::OrganizationExists),
        (Some(organization), _) => organization,
    };
    if organization.status() == OrganizationStatus::Deleted {
        return Err(Rejection::OrganizationDeleted);
    }
    let mut events = Vec::new();
    match command {
        OrganizationCommand::Create { .. } => {}
        OrganizationCommand::Edit { name, kind } => {
            if let Some(name) = name.as_ref().filter(|name| **name != organization.name) {
                events.push(Event::OrganizationRenamed((), OrganizationPersonal { name: name.clone() }));
            }
            if let Some(kind) = kind.filter(|kind| *kind != organization.kind) {
                events.push(Event::OrganizationKindChanged(OrganizationKindChanged { kind }, ()));
            }
        }
        OrganizationCommand::SetPolicy(environment, policy) => {
            if organization.policies.get(*environment).is_none_or(|current| !current.is_same(policy)) {
                let facts = PolicySet { environment: *environment, policy: policy.clone() };
                events.push(Event::PolicySet(facts, ()));
            }
        }
        OrganizationCommand::RemovePolicy(environment) => {
            if organization.policies.get(*environment).is_none() {
                return Err(Rejection::PolicyUnknown);
            }
            events.push(Event::PolicyRemoved(PolicyRemoved { environment: *environment }, ()));
        }
        OrganizationCommand::Delete => events.push(Event::OrganizationDeleted((), ())),
    }
    Ok(events)
}
