//! The commands to an organization.

use crate::domain::organization::OrganizationKind;
use crate::domain::policy::Policy;
use crate::value::environment::Environment;
use crate::value::text::Name;

/// What can be asked of an organization.
#[derive(Debug, Clone)]
pub enum OrganizationCommand {
    /// Create it.
    Create {
        /// What people call it.
        name: Option<Name>,
        /// Its kind.
        kind: OrganizationKind,
    },
    /// Change what `Some` names; an inner `None` clears.
    Edit {
        /// New name.
        name: Option<Option<Name>>,
        /// New kind.
        kind: Option<OrganizationKind>,
    },
    /// Demand this of its keys in an environment from now on.
    SetPolicy(Environment, Policy),
    /// Demand nothing of its keys in an environment any more.
    RemovePolicy(Environment),
    /// Delete it, and with it every key it has, at that moment.
    Delete,
}
