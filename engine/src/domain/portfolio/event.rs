//! The events of a link between a partner and a client: facts, and apart from them the personal part. The order of fields is the order of bytes
//! (docs/format.md): a field is never added, removed or moved without a new schema number.

use serde::{Deserialize, Serialize};

use crate::value::id::OrganizationId;

/// A client came into a partner's portfolio.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientLinked {
    /// The client organization.
    pub client_id: OrganizationId,
}

/// A client left a partner's portfolio, and every key that the partner made for it stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientUnlinked {
    /// The client organization.
    pub client_id: OrganizationId,
}
