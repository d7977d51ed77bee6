//! The commands to a root key.

use crate::domain::root_key::RootKeyCreated;
use crate::value::id::OrganizationId;
use crate::value::text::Name;

/// What can be asked of a root key.
#[derive(Debug, Clone)]
pub enum RootKeyCommand {
    /// Create it.
    Create {
        /// The organization it is bound to, if one.
        organization_id: Option<OrganizationId>,
        /// What people call it.
        name: Option<Name>,
        /// The facts to record.
        facts: RootKeyCreated,
    },
    /// Stop it, for good.
    Revoke,
}
