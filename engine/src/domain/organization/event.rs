//! The events of an organization: facts, and the personal part apart from them. The order of fields is the
//! order of bytes (docs/format.md). To add, remove or move a field, introduce a new schema number.

use serde::{Deserialize, Serialize};

use crate::domain::organization::OrganizationKind;
use crate::value::text::Name;

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

/// An organization's kind was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganizationKindChanged {
    /// Its kind from now on.
    pub kind: OrganizationKind,
}
