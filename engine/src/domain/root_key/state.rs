//! The state of a root key, as its events leave it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::record::Record;
use crate::domain::stream::StreamId;
use crate::value::id::{OrganizationId, RootKeyId};
use crate::value::permission::Permission;
use crate::value::position::Version;
use crate::value::text::Name;
use crate::value::time::Timestamp;
use crate::value::token::{Digest, TokenHint};

/// A root key as its events have left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootKey {
    /// Its id.
    pub id: RootKeyId,
    /// The organization it is bound to, if one.
    pub organization_id: Option<OrganizationId>,
    /// What people call it.
    pub name: Option<Name>,
    /// What it allows.
    pub permissions: Vec<Permission>,
    /// Digest of its token.
    pub digest: Digest,
    /// What of the token may be shown.
    pub hint: TokenHint,
    /// When it was created.
    pub created_at: Timestamp,
    /// The id of the actor who created it.
    pub created_by: Arc<str>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// How many events it has.
    pub version: Version,
}

impl RootKey {
    /// The root key after `record`, which must be of its stream; `None` comes back when it does not fit.
    #[must_use]
    pub fn apply(root_key: Option<Self>, record: &Record) -> Option<Self> {
        let StreamId::RootKey(id) = record.stream else { return None };
        match (root_key, &record.event) {
            (None, Event::RootKeyCreated(facts, personal)) => Some(Self {
                id,
                organization_id: record.organization_id.clone(),
                name: personal.name.clone(),
                permissions: facts.permissions.clone(),
                digest: facts.digest,
                hint: facts.hint.clone(),
                created_at: record.time,
                created_by: record.actor.id.clone(),
                revoked_at: None,
                version: record.version,
            }),
            (Some(root_key), Event::RootKeyRevoked((), ())) => {
                Some(Self { revoked_at: Some(record.time), version: record.version, ..root_key })
            }
            _ => None,
        }
    }
}
