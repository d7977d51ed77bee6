//! The events of a root key: facts, and the personal part apart from them. The order of fields is the order
//! of bytes (docs/format.md). To add, remove or move a field, introduce a new schema number.

use serde::{Deserialize, Serialize};

use crate::value::permission::Permission;
use crate::value::text::Name;
use crate::value::token::{Digest, TokenHint};

/// A root key was created. The record names the organization that it is bound to, if any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootKeyCreated {
    /// The digest of its token.
    pub digest: Digest,
    /// The parts of its token that may be shown.
    pub hint: TokenHint,
    /// Its permissions.
    pub permissions: Vec<Permission>,
}

/// The personal part of [`RootKeyCreated`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootKeyCreatedPersonal {
    /// Its name.
    pub name: Option<Name>,
}
