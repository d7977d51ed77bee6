//! The organization: the tenant that owns keys.

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::policy::{Policies, Policy, PolicyRemoved, PolicySet};
use crate::domain::record::Record;
use crate::domain::rejection::Rejection;
use crate::domain::stream::StreamId;
use crate::value::environment::Environment;
use crate::value::id::OrganizationId;
use crate::value::position::Version;
use crate::value::text::Name;
use crate::value::time::Timestamp;

/// What an organization is to the service's owner. The numbers are stored (docs/format.md) and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OrganizationKind {
    /// Trying the product out.
    Test,
    /// Paying.
    Paid,
    /// Selling on to a portfolio of client organizations.
    Partner,
    /// Neither; may not create keys.
    Free,
}

impl OrganizationKind {
    const TABLE: [(Self, u8, &'static str); 4] = [
        (Self::Test, 0, "test"),
        (Self::Paid, 1, "paid"),
        (Self::Partner, 2, "partner"),
        (Self::Free, 3, "free"),
    ];

    /// Whether organizations of this kind may have new keys.
    #[must_use]
    pub const fn may_create_keys(self) -> bool {
        !matches!(self, Self::Free)
    }
}

crate::value::stored_enum::stored_enum!(OrganizationKind, "organization kind");

/// Whether an organization is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OrganizationStatus {
    /// It is.
    Active,
    /// It was deleted; final.
    Deleted,
}

impl OrganizationStatus {
    const TABLE: [(Self, u8, &'static str); 2] = [(Self::Active, 0, "active"), (Self::Deleted, 1, "deleted")];
}

crate::value::stored_enum::stored_enum!(OrganizationStatus, "organization status");

/// An organization was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganizationCreated {
    /// Its kind.
    pub kind: OrganizationKind,
}

/// The personal part of [`OrganizationCreated`], and of `OrganizationRenamed`, which has no facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganizationPersonal {
    /// Its name from now on.
    pub name: Option<Name>,
}

/// An organization is of another kind than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganizationKindChanged {
    /// Its kind from now on.
    pub kind: OrganizationKind,
}

/// What can be asked of an organization.
#[derive(Debug, Clone)]
pub enum OrganizationCommand {
    /// Create it.
    Create {
        /// What people call it.
        name: Option<Name>,
        /// Its kind.
        kind: OrganizationKind,
    },
    /// Change what `Some` names; an inner `None` clears.
    Edit {
        /// New name.
        name: Option<Option<Name>>,
        /// New kind.
        kind: Option<OrganizationKind>,
    },
    /// Demand this of its keys in an environment from now on.
    SetPolicy(Environment, Policy),
    /// Demand nothing of its keys in an environment any more.
    RemovePolicy(Environment),
    /// Delete it, and with it every key it has, at that moment.
    Delete,
}

/// An organization as its events have left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// What people call it.
    pub name: Option<Name>,
    /// Its kind.
    pub kind: OrganizationKind,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// What it demands of its keys.
    pub policies: Policies,
    /// How many events it has.
    pub version: Version,
}

impl Organization {
    /// Whether it is there.
    #[must_use]
    pub const fn status(&self) -> OrganizationStatus {
        if self.deleted_at.is_some() { OrganizationStatus::Deleted } else { OrganizationStatus::Active }
    }

    /// The organization after `record`, which must be of its stream; `None` comes back when it does not fit.
    #[must_use]
    pub fn apply(organization: Option<Self>, record: &Record) -> Option<Self> {
        let StreamId::Organization(id) = &record.stream else { return None };
        let mut organization = match (organization, &record.event) {
            (None, Event::OrganizationCreated(facts, personal)) => {
                return Some(Self {
                    id: id.clone(),
                    name: personal.name.clone(),
                    kind: facts.kind,
                    created_at: record.time,
                    deleted_at: None,
                    policies: Policies::default(),
                    version: record.version,
                });
            }
            (None, _) => return None,
            (Some(organization), _) => organization,
        };
        match &record.event {
            Event::OrganizationRenamed((), personal) => organization.name.clone_from(&personal.name),
            Event::OrganizationKindChanged(facts, ()) => organization.kind = facts.kind,
            Event::PolicySet(facts, ()) => {
                organization.policies.set(facts.environment, Some(facts.policy.clone()));
            }
            Event::PolicyRemoved(facts, ()) => organization.policies.set(facts.environment, None),
            Event::OrganizationDeleted((), ()) => organization.deleted_at = Some(record.time),
            _ => return None,
        }
        organization.version = record.version;
        Some(organization)
    }
}

/// Says what `command` leads to: the events to append, none when nothing changes.
///
/// # Errors
/// The rule that refuses the command.
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
            if organization.policies.get(*environment).is_none_or(|present| !present.is_same(policy)) {
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
