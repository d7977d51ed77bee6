//! The erasure of personal text: of a user of an organization, or of a whole organization. It destroys the keys that the
//! text is sealed with ([`crate::vault`]); what is left in the log is which keys these were, and nothing of whom they were.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::organization::Organization;
use crate::domain::record::Record;
use crate::domain::rejection::Rejection;
use crate::domain::stream::StreamId;
use crate::value::id::{ErasureId, OrganizationId};
use crate::value::position::Version;
use crate::value::subject::SubjectKeyId;
use crate::value::text::UserId;
use crate::value::time::Timestamp;

/// An event names at most this many keys, so that it fits an entry; an erasure of more has more events.
pub const KEYS_MAX: usize = 2_048;

/// Whose text is erased. The numbers are stored (docs/format.md) and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErasedSubject {
    /// An organization with all its users.
    Organization,
    /// One user of an organization.
    User,
}

impl ErasedSubject {
    const TABLE: [(Self, u8, &'static str); 2] =
        [(Self::Organization, 0, "organization"), (Self::User, 1, "user")];
}

crate::value::stored_enum::stored_enum!(ErasedSubject, "subject of an erasure");

/// Keys were destroyed, and what they seal with them. The organization is the record's own; which user it was is told
/// nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonalDataErased {
    /// Whose text it was.
    pub subject: ErasedSubject,
    /// The keys; none when there was nothing to erase.
    pub subject_keys: Vec<SubjectKeyId>,
}

/// What can be asked of an erasure.
#[derive(Debug, Clone)]
pub enum ErasureCommand {
    /// Carry it out.
    Erase {
        /// The organization.
        organization_id: OrganizationId,
        /// The user; none for the whole organization.
        user_id: Option<UserId>,
    },
}

/// An erasure that took place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Its id.
    pub id: ErasureId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// Whose text was erased.
    pub subject: ErasedSubject,
    /// How many keys were destroyed.
    pub subject_keys: u64,
    /// When.
    pub erased_at: Timestamp,
    /// The id of the actor who asked for it.
    pub created_by: Arc<str>,
    /// How many events it has.
    pub version: Version,
}

impl Erasure {
    /// The erasure after `record`, which must be of its stream; `None` comes back when it does not fit.
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

/// The keys that an event says were destroyed.
pub(crate) fn destroyed_keys(event: &Event) -> &[SubjectKeyId] {
    match event {
        Event::PersonalDataErased(facts, ()) => &facts.subject_keys,
        _ => &[],
    }
}

/// Says what `command` leads to: the events to append. `organization` is the one it names, deleted or not, and `keys` are
/// the subject's as of now.
///
/// # Errors
/// The rule that refuses the command.
pub fn decide(
    erasure: Option<&Erasure>,
    organization: Option<&Organization>,
    keys: &[SubjectKeyId],
    command: &ErasureCommand,
) -> Result<Vec<Event>, Rejection> {
    let ErasureCommand::Erase { user_id, .. } = command;
    if erasure.is_some() {
        return Err(Rejection::ErasureExists);
    }
    if organization.is_none() {
        return Err(Rejection::OrganizationUnknown);
    }
    let subject = if user_id.is_some() { ErasedSubject::User } else { ErasedSubject::Organization };
    let event = |keys: &[SubjectKeyId]| {
        Event::PersonalDataErased(PersonalDataErased { subject, subject_keys: keys.to_vec() }, ())
    };
    if keys.is_empty() {
        return Ok(vec![event(&[])]);
    }
    Ok(keys.chunks(KEYS_MAX).map(event).collect())
}
