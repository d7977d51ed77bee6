//! The state of an application, as its events leave it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::record::Record;
use crate::domain::stream::StreamId;
use crate::value::id::{ApplicationId, OrganizationId};
use crate::value::permission::Permission;
use crate::value::position::Version;
use crate::value::text::Name;
use crate::value::time::Timestamp;
use crate::value::token::{Digest, TokenHint};

/// An application, as its events leave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// Its id, which is also its OAuth 2.0 client identifier.
    pub id: ApplicationId,
    /// The organization that it is bound to, if any.
    pub organization_id: Option<OrganizationId>,
    /// Its name.
    pub name: Option<Name>,
    /// Its permissions.
    pub permissions: Vec<Permission>,
    /// The digest of its secret.
    pub digest: Digest,
    /// The parts of its secret that may be shown.
    pub hint: TokenHint,
    /// The version that set its current secret. Access tokens that were issued for another secret are
    /// invalid.
    pub secret_version: Version,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The id of the actor that created it.
    pub created_by: Arc<str>,
    /// The time of its deletion.
    pub deleted_at: Option<Timestamp>,
    /// The number of its events.
    pub version: Version,
}

impl Application {
    /// Returns the application after `record`, which must be of its stream, or `None` when the record does
    /// not fit.
    #[must_use]
    pub fn apply(application: Option<Self>, record: &Record) -> Option<Self> {
        let StreamId::Application(id) = record.stream else { return None };
        let mut application = match (application, &record.event) {
            (None, Event::ApplicationCreated(facts, personal)) => {
                return Some(Self {
                    id,
                    organization_id: record.organization_id.clone(),
                    name: personal.name.clone(),
                    permissions: facts.permissions.clone(),
                    digest: facts.digest,
                    hint: facts.hint.clone(),
                    secret_version: record.version,
                    created_at: record.time,
                    created_by: record.actor.id.clone(),
                    deleted_at: None,
                    version: record.version,
                });
            }
            (None, _) => return None,
            (Some(application), _) => application,
        };
        match &record.event {
            Event::ApplicationRenamed((), personal) => application.name.clone_from(&personal.name),
            Event::ApplicationPermissionsChanged(facts, ()) => {
                application.permissions.clone_from(&facts.permissions);
            }
            Event::ApplicationSecretRotated(facts, ()) => {
                application.digest = facts.digest;
                application.hint.clone_from(&facts.hint);
                application.secret_version = record.version;
            }
            Event::ApplicationDeleted((), ()) => application.deleted_at = Some(record.time),
            _ => return None,
        }
        application.version = record.version;
        Some(application)
    }
}
