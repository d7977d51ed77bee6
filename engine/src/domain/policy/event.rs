//! The events of a policy: facts, and the personal part apart from them. The order of fields is the order of
//! bytes (docs/format.md). To add, remove or move a field, introduce a new schema number.

use serde::{Deserialize, Serialize};

use crate::domain::policy::Policy;
use crate::value::environment::Environment;

/// An organization's policy for one environment was set. It replaces the previous policy as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySet {
    /// The environment.
    pub environment: Environment,
    /// The policy.
    pub policy: Policy,
}

/// An organization's policy for one environment was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRemoved {
    /// The environment.
    pub environment: Environment,
}
