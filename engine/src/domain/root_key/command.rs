//! The commands to a root key.

use crate::domain::root_key::RootKeyCreated;
use crate::value::id::OrganizationId;
use crate::value::text::Name;

/// A command to a root key.
#[derive(Debug, Clone)]
pub enum RootKeyCommand {
    /// Creates the root key.
    Create {
        /// The organization that it is bound to, if any.
        organization_id: Option<OrganizationId>,
        /// Its name.
        name: Option<Name>,
        /// The facts of the event.
        facts: RootKeyCreated,
    },
    /// Revokes the root key. This is final.
    Revoke,
}
