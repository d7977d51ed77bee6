//! The commands to an application.

use crate::domain::application::{ApplicationCreated, ApplicationSecretRotated};
use crate::value::id::OrganizationId;
use crate::value::permission::Permission;
use crate::value::text::Name;

/// What can be asked of an application.
#[derive(Debug, Clone)]
pub enum ApplicationCommand {
    /// Create it.
    Create {
        /// The organization it is bound to, if one.
        organization_id: Option<OrganizationId>,
        /// What people call it.
        name: Option<Name>,
        /// The facts to record.
        facts: ApplicationCreated,
    },
    /// Change what `Some` names; an inner `None` clears.
    Edit {
        /// New name.
        name: Option<Option<Name>>,
        /// New permissions.
        permissions: Option<Vec<Permission>>,
    },
    /// Give it a new secret.
    RotateSecret(ApplicationSecretRotated),
    /// Delete it, for good.
    Delete,
}
