//! The events of an application: facts, and apart from them the personal part. The order of fields is the order of bytes
//! (docs/format.md): a field is never added, removed or moved without a new schema number.

use serde::{Deserialize, Serialize};

use crate::value::permission::Permission;
use crate::value::text::Name;
use crate::value::token::{Digest, TokenHint};

/// An application was created. The organization that it is bound to, if one, is the record's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationCreated {
    /// Digest of its secret.
    pub digest: Digest,
    /// What of the secret may be shown.
    pub hint: TokenHint,
    /// What it may do.
    pub permissions: Vec<Permission>,
}

/// The personal part of [`ApplicationCreated`], and of `ApplicationRenamed`, which has no facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationPersonal {
    /// Its name from now on.
    pub name: Option<Name>,
}

/// An application may do other things than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationPermissionsChanged {
    /// What it may do from now on.
    pub permissions: Vec<Permission>,
}

/// An application got a new secret; the one before is good for nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationSecretRotated {
    /// Digest of the new secret.
    pub digest: Digest,
    /// What of the new secret may be shown.
    pub hint: TokenHint,
}
