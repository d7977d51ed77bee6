//! The events of an API: facts, and apart from them the personal part. The order of fields is the order of bytes
//! (docs/format.md): a field is never added, removed or moved without a new schema number.

use serde::{Deserialize, Serialize};

use crate::value::text::{Audience, Name, Scope};
use crate::value::token::TokenPrefix;

/// An API was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiRegistered {
    /// What people call it.
    pub name: Name,
    /// Whom its tokens are for, as OAuth 2.0 says audience.
    pub audience: Audience,
    /// What its keys' tokens begin with; never changes.
    pub token_prefix: TokenPrefix,
    /// All scopes that its keys may carry.
    pub scopes: Vec<Scope>,
}

/// An API has another name than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiRenamed {
    /// Its name from now on.
    pub name: Name,
}

/// An API has other scopes than before. Keys keep what they carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiScopesChanged {
    /// All its scopes from now on.
    pub scopes: Vec<Scope>,
}
