//! The commands to an organization.

use crate::domain::organization::OrganizationKind;
use crate::domain::policy::Policy;
use crate::value::environment::Environment;
use crate::value::text::Name;

/// A command to an organization.
#[derive(Debug, Clone)]
pub enum OrganizationCommand {
    /// Creates the organization.
    Create {
        /// Its name.
        name: Option<Name>,
        /// Its kind.
        kind: OrganizationKind,
    },
    /// Changes the fields that are `Some`; an inner `None` clears a field.
    Edit {
        /// The new name.
        name: Option<Option<Name>>,
        /// The new kind.
        kind: Option<OrganizationKind>,
    },
    /// Sets or replaces the policy for an environment.
    SetPolicy(Environment, Policy),
    /// Removes the policy for an environment.
    RemovePolicy(Environment),
    /// Deletes the organization. All its keys stop working at that moment.
    Delete,
}
