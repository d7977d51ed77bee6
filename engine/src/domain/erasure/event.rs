//! The events of an erasure: facts, and apart from them the personal part. The order of fields is the order of bytes
//! (docs/format.md): a field is never added, removed or moved without a new schema number.

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::value::subject::SubjectKeyId;

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

/// The keys that an event says were destroyed.
pub(crate) fn destroyed_keys(event: &Event) -> &[SubjectKeyId] {
    match event {
        Event::PersonalDataErased(facts, ()) => &facts.subject_keys,
        _ => &[],
    }
}
