//! The events of a root key: facts, and apart from them the personal part. The order of fields is the order of bytes
//! (docs/format.md): a field is never added, removed or moved without a new schema number.

use serde::{Deserialize, Serialize};

use crate::value::permission::Permission;
use crate::value::text::Name;
use crate::value::token::{Digest, TokenHint};

/// A root key was created. The organization that it is bound to, if one, is the record's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootKeyCreated {
    /// Digest of its token.
    pub digest: Digest,
    /// What of the token may be shown.
    pub hint: TokenHint,
    /// What it allows.
    pub permissions: Vec<Permission>,
}

/// The personal part of [`RootKeyCreated`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootKeyCreatedPersonal {
    /// What people call it.
    pub name: Option<Name>,
}
