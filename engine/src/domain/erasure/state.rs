//! The state of an erasure, as its events leave it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::erasure::ErasedSubject;
use crate::domain::event::Event;
use crate::domain::record::Record;
use crate::domain::stream::StreamId;
use crate::value::id::{ErasureId, OrganizationId};
use crate::value::position::Version;
use crate::value::time::Timestamp;

/// An erasure that took place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Its id.
    pub id: ErasureId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// The kind of subject.
    pub subject: ErasedSubject,
    /// The number of keys that were destroyed.
    pub subject_keys: u64,
    /// The time of the erasure.
    pub erased_at: Timestamp,
    /// The id of the actor that issued it.
    pub created_by: Arc<str>,
    /// The number of its events.
    pub version: Version,
}

impl Erasure {
    /// Returns the erasure after `record`, which must be of its stream, or `None` when the record does not
    /// fit.
    #[must_use]
    pub fn apply(erasure: Option<Self>, record: &Record) -> Option<Self> {
        let StreamId::Erasure(id) = record.stream else { return None };
        let Event::PersonalDataErased(facts, ()) = &record.event else { return None };
        let mut erasure = match erasure {
            Some(erasure) => erasure,
            None => Self {
                id,
                organization_id: record.organization_id.clone()?,
                subject: facts.subject,
                subject_keys: 0,
                erased_at: record.time,
                created_by: record.actor.id.clone(),
                version: record.version,
            },
        };
        erasure.subject_keys += facts.subject_keys.len() as u64;
        erasure.version = record.version;
        Some(erasure)
    }
}
