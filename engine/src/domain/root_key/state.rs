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

/// A root key, as its events leave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootKey {
    /// Its id.
    pub id: RootKeyId,
    /// The organization that it is bound to, if any.
    pub organization_id: Option<OrganizationId>,
    /// Its name.
    pub name: Option<Name>,
    /// Its permissions.
    pub permissions: Vec<Permission>,
    /// The digest of its token.
    pub digest: Digest,
    /// The parts of its token that may be shown.
    pub hint: TokenHint,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The id of the actor that created it.
    pub created_by: Arc<str>,
    /// The time of its revocation.
    pub revoked_at: Option<Timestamp>,
    /// The number of its events.
    pub version: Version,
}

impl RootKey {
    /// Returns the root key after `record`, which must be of its stream, or `None` when the record does not
    /// fit.
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
