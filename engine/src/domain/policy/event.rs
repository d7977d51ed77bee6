//! The events of a policy: facts, and apart from them the personal part. The order of fields is the order of bytes
//! (docs/format.md): a field is never added, removed or moved without a new schema number.

use serde::{Deserialize, Serialize};

use crate::domain::policy::Policy;
use crate::value::environment::Environment;

/// An organization demands this of its keys in an environment from now on, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySet {
    /// The environment.
    pub environment: Environment,
    /// What it demands.
    pub policy: Policy,
}

/// An organization demands nothing of its keys in an environment any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRemoved {
    /// The environment.
    pub environment: Environment,
}
