//! The events of an erasure: facts, and the personal part apart from them. The order of fields is the order
//! of bytes (docs/format.md). To add, remove or move a field, introduce a new schema number.

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::value::subject::SubjectKeyId;

/// The kind of subject whose text is erased. The numbers are stored (docs/format.md) and never change.
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

/// Keys were destroyed, and the text that they seal with them. The record names the organization; the user is
/// not recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonalDataErased {
    /// The kind of subject.
    pub subject: ErasedSubject,
    /// The names of the keys; empty if there was nothing to erase.
    pub subject_keys: Vec<SubjectKeyId>,
}

/// The names of the keys that the event says were destroyed.
pub(crate) fn destroyed_keys(event: &Event) -> &[SubjectKeyId] {
    match event {
        Event::PersonalDataErased(facts, ()) => &facts.subject_keys,
        _ => &[],
    }
}
