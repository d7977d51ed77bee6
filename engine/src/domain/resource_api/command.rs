//! The commands to an API.

use crate::domain::resource_api::ApiRegistered;
use crate::value::text::{Name, Scope};

/// What can be asked of an API.
#[derive(Debug, Clone)]
pub enum ApiCommand {
    /// Register it.
    Register(ApiRegistered),
    /// Change what `Some` names.
    Edit {
        /// New name.
        name: Option<Name>,
        /// New scopes.
        scopes: Option<Vec<Scope>>,
    },
    /// Delete it: its keys are refused from then on.
    Delete,
}
