//! The events of an application: facts, and the personal part apart from them. The order of fields is the
//! order of bytes (docs/format.md). To add, remove or move a field, introduce a new schema number.

use serde::{Deserialize, Serialize};

use crate::value::permission::Permission;
use crate::value::text::Name;
use crate::value::token::{Digest, TokenHint};

/// An application was created. The record names the organization that it is bound to, if any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationCreated {
    /// The digest of its secret.
    pub digest: Digest,
    /// The parts of its secret that may be shown.
    pub hint: TokenHint,
    /// Its permissions.
    pub permissions: Vec<Permission>,
}

/// The personal part of [`ApplicationCreated`], and of `ApplicationRenamed`, which has no facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationPersonal {
    /// Its name from now on.
    pub name: Option<Name>,
}

/// An application's permissions were changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationPermissionsChanged {
    /// All its permissions from now on.
    pub permissions: Vec<Permission>,
}

/// An application's secret was replaced by a new one. The previous secret is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationSecretRotated {
    /// The digest of the new secret.
    pub digest: Digest,
    /// The parts of the new secret that may be shown.
    pub hint: TokenHint,
}
