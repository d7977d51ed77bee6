//! The events of an API: facts, and the personal part apart from them. The order of fields is the order of
//! bytes (docs/format.md). To add, remove or move a field, introduce a new schema number.

use serde::{Deserialize, Serialize};

use crate::value::text::{Audience, Name, Scope};
use crate::value::token::TokenPrefix;

/// An API was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiRegistered {
    /// Its name.
    pub name: Name,
    /// Its audience, as in OAuth 2.0.
    pub audience: Audience,
    /// The prefix of its keys' tokens; it never changes.
    pub token_prefix: TokenPrefix,
    /// All scopes that its keys may have.
    pub scopes: Vec<Scope>,
}

/// An API was renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiRenamed {
    /// The new name.
    pub name: Name,
}

/// An API's scopes were changed. Existing keys keep their scopes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiScopesChanged {
    /// All its scopes from now on.
    pub scopes: Vec<Scope>,
}
