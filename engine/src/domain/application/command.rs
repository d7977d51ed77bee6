//! The commands to an application.

use crate::domain::application::{ApplicationCreated, ApplicationSecretRotated};
use crate::value::id::OrganizationId;
use crate::value::permission::Permission;
use crate::value::text::Name;

/// A command to an application.
#[derive(Debug, Clone)]
pub enum ApplicationCommand {
    /// Creates the application.
    Create {
        /// The organization that it is bound to, if any.
        organization_id: Option<OrganizationId>,
        /// Its name.
        name: Option<Name>,
        /// The facts of the event.
        facts: ApplicationCreated,
    },
    /// Changes the fields that are `Some`; an inner `None` clears a field.
    Edit {
        /// The new name.
        name: Option<Option<Name>>,
        /// The new permissions.
        permissions: Option<Vec<Permission>>,
    },
    /// Replaces its secret by a new one. The previous secret is invalid at once.
    RotateSecret(ApplicationSecretRotated),
    /// Deletes the application. This is final.
    Delete,
}
