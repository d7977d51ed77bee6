//! The application: an OAuth 2.0 client (RFC 6749 §1.1) that calls Keyledger by itself, machine to machine. It trades its
//! secret for short-lived access tokens; what those may do is what the application itself may do at that moment.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::record::Record;
use crate::domain::rejection::Rejection;
use crate::domain::stream::StreamId;
use crate::value::id::{ApplicationId, OrganizationId};
use crate::value::permission::Permission;
use crate::value::position::Version;
use crate::value::text::{Name, is_same_set};
use crate::value::time::Timestamp;
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

/// What can be asked of an application.
#[derive(Debug, Clone)]
pub enum ApplicationCommand {
    /// Create it.
    Create {
        /// The organization it is bound to, if one.
        organization_id: Option<OrganizationId>,
        /// What people call it.
        name: Option<Name>,
        /// The facts to record.
        facts: ApplicationCreated,
    },
    /// Change what `Some` names; an inner `None` clears.
    Edit {
        /// New name.
        name: Option<Option<Name>>,
        /// New permissions.
        permissions: Option<Vec<Permission>>,
    },
    /// Give it a new secret.
    RotateSecret(ApplicationSecretRotated),
    /// Delete it, for good.
    Delete,
}

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

/// Says what `command` leads to: the events to append, none when nothing changes.
///
/// # Errors
/// The rule that refuses the command.
pub fn decide(
    application: Option<&Application>,
    command: &ApplicationCommand,
    _now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let application = match (application, command) {
        (None, ApplicationCommand::Create { name, facts, .. }) => {
            let personal = ApplicationPersonal { name: name.clone() };
            return Ok(vec![Event::ApplicationCreated(facts.clone(), personal)]);
        }
        (None, _) => return Err(Rejection::ApplicationUnknown),
        (Some(_), ApplicationCommand::Create { .. }) => return Err(Rejection::ApplicationExists),
        (Some(application), _) => application,
    };
    if application.deleted_at.is_some() {
        return Err(Rejection::ApplicationDeleted);
    }
    let mut events = Vec::new();
    match command {
        ApplicationCommand::Create { .. } => {}
        ApplicationCommand::Edit { name, permissions } => {
            if let Some(name) = name.as_ref().filter(|name| **name != application.name) {
                events.push(Event::ApplicationRenamed((), ApplicationPersonal { name: name.clone() }));
            }
            let other = |it: &&Vec<Permission>| !is_same_set(it, &application.permissions);
            if let Some(permissions) = permissions.as_ref().filter(other) {
                let facts = ApplicationPermissionsChanged { permissions: permissions.clone() };
                events.push(Event::ApplicationPermissionsChanged(facts, ()));
            }
        }
        ApplicationCommand::RotateSecret(facts) => {
            events.push(Event::ApplicationSecretRotated(facts.clone(), ()));
        }
        ApplicationCommand::Delete => events.push(Event::ApplicationDeleted((), ())),
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::Personal;
    use crate::value::actor::Actor;
    use crate::value::id::EventId;
    use crate::value::position::Position;

    fn secret(byte: u8) -> (Digest, TokenHint) {
        let hint = TokenHint { start: "klsecret_ab12".into(), last_four: "Zz09".into() };
        (Digest::from_bytes([byte; 32]), hint)
    }

    fn create() -> ApplicationCommand {
        let (digest, hint) = secret(1);
        let facts = ApplicationCreated { digest, hint, permissions: vec![Permission::KeysVerify] };
        ApplicationCommand::Create { organization_id: None, name: None, facts }
    }

    fn after(application: Option<Application>, command: &ApplicationCommand) -> Application {
        let events = decide(application.as_ref(), command, Timestamp::default()).unwrap();
        events
            .into_iter()
            .fold(application, |application, event| {
                let version = application.as_ref().map_or(0, |it| it.version.get()) + 1;
                let record = Record {
                    position: Position::new(u64::from(version)),
                    id: EventId::from_u128(1),
                    time: Timestamp::from_millis(5),
                    stream: StreamId::Application(ApplicationId::from_u128(7)),
                    version: Version::new(version),
                    organization_id: None,
                    actor: Actor::system(),
                    request_id: None,
                    causation: None,
                    event,
                    personal: Personal::Readable,
                };
                Application::apply(application, &record)
            })
            .unwrap()
    }

    #[test]
    fn a_new_secret_takes_the_place_of_the_one_before() {
        let created = after(None, &create());
        let (digest, hint) = secret(2);
        let rotated = ApplicationSecretRotated { digest, hint };
        let rotated = after(Some(created.clone()), &ApplicationCommand::RotateSecret(rotated));
        assert_eq!(rotated.digest, digest);
        assert!(rotated.secret_version > created.secret_version);
        let renamed = Some(Some(Name::new("Billing").unwrap()));
        let edited =
            after(Some(rotated.clone()), &ApplicationCommand::Edit { name: renamed, permissions: None });
        assert_eq!(edited.secret_version, rotated.secret_version);
    }

    #[test]
    fn an_edit_that_changes_nothing_leaves_no_event() {
        let created = after(None, &create());
        let edit =
            ApplicationCommand::Edit { name: Some(None), permissions: Some(vec![Permission::KeysVerify]) };
        assert_eq!(decide(Some(&created), &edit, Timestamp::default()), Ok(Vec::new()));
    }

    #[test]
    fn a_deleted_application_stays_deleted() {
        let deleted = after(Some(after(None, &create())), &ApplicationCommand::Delete);
        assert!(deleted.deleted_at.is_some());
        let (digest, hint) = secret(2);
        for command in [
            ApplicationCommand::Delete,
            ApplicationCommand::RotateSecret(ApplicationSecretRotated { digest, hint }),
            ApplicationCommand::Edit { name: None, permissions: None },
        ] {
            let refused = decide(Some(&deleted), &command, Timestamp::default());
            assert_eq!(refused, Err(Rejection::ApplicationDeleted));
        }
        assert_eq!(
            decide(Some(&deleted), &create(), Timestamp::default()),
            Err(Rejection::ApplicationExists)
        );
    }
}
