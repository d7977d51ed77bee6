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

/// An application as its events have left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// Its id, which is its OAuth 2.0 client identifier too.
    pub id: ApplicationId,
    /// The organization it is bound to, if one.
    pub organization_id: Option<OrganizationId>,
    /// What people call it.
    pub name: Option<Name>,
    /// What it may do.
    pub permissions: Vec<Permission>,
    /// Digest of its secret.
    pub digest: Digest,
    /// What of the secret may be shown.
    pub hint: TokenHint,
    /// The version that brought its present secret: an access token that was got with another one is not good any more.
    pub secret_version: Version,
    /// When it was created.
    pub created_at: Timestamp,
    /// The id of the actor who created it.
    pub created_by: Arc<str>,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// How many events it has.
    pub version: Version,
}

impl Application {
    /// The application after `record`, which must be of its stream; `None` comes back when it does not fit.
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
