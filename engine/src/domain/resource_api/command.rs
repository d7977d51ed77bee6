//! The commands to an API.

use crate::domain::resource_api::ApiRegistered;
use crate::value::text::{Name, Scope};

/// A command to an API.
#[derive(Debug, Clone)]
pub enum ApiCommand {
    /// Registers the API.
    Register(ApiRegistered),
    /// Changes the fields that are `Some`.
    Edit {
        /// The new name.
        name: Option<Name>,
        /// The new scopes.
        scopes: Option<Vec<Scope>>,
    },
    /// Deletes the API. All its keys stop working at that moment.
    Delete,
}
