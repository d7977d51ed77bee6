//! The events of a link to a client: facts, and the personal part apart from them. The order of fields is the
//! order of bytes (docs/format.md). To add, remove or move a field, introduce a new schema number.

use serde::{Deserialize, Serialize};

use crate::value::id::OrganizationId;

/// A client was linked to a partner's portfolio.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientLinked {
    /// The client organization.
    pub client_id: OrganizationId,
}

/// A client was unlinked from a partner's portfolio, and all keys that the partner made for it stopped
/// working.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientUnlinked {
    /// The client organization.
    pub client_id: OrganizationId,
}
