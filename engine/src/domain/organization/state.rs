//! The state of an organization, as its events leave it.

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::organization::OrganizationKind;
use crate::domain::policy::Policies;
use crate::domain::record::Record;
use crate::domain::stream::StreamId;
use crate::value::id::OrganizationId;
use crate::value::position::Version;
use crate::value::text::Name;
use crate::value::time::Timestamp;

/// The status of an organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OrganizationStatus {
    /// It exists.
    Active,
    /// It was deleted. This is final.
    Deleted,
}

impl OrganizationStatus {
    const TABLE: [(Self, u8, &'static str); 2] = [(Self::Active, 0, "active"), (Self::Deleted, 1, "deleted")];
}

crate::value::stored_enum::stored_enum!(OrganizationStatus, "organization status");

/// An organization, as its events leave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// Its name.
    pub name: Option<Name>,
    /// Its kind.
    pub kind: OrganizationKind,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The time of its deletion.
    pub deleted_at: Option<Timestamp>,
    /// Its policies for keys, one for each environment.
    pub policies: Policies,
    /// The number of its events.
    pub version: Version,
}

impl Organization {
    /// The status: active until it is deleted.
    #[must_use]
    pub const fn status(&self) -> OrganizationStatus {
        if self.deleted_at.is_some() { OrganizationStatus::Deleted } else { OrganizationStatus::Active }
    }

    /// Returns the organization after `record`, which must be of its stream, or `None` when the record does
    /// not fit.
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
