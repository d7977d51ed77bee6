//! The rules of an application: the events that each command leads to in each state.

use crate::domain::application::{
    Application, ApplicationCommand, ApplicationPermissionsChanged, ApplicationPersonal,
};
use crate::domain::decision::{Context, Decide};
use crate::domain::event::Event;
use crate::domain::rejection::Rejection;
use crate::value::id::{ApplicationId, OrganizationId};
use crate::value::permission::Permission;
use crate::value::text::is_same_set;
use crate::value::time::Timestamp;

impl Decide for Application {
    fn organization_id<'a>(
        _id: &'a ApplicationId,
        application: Option<&'a Self>,
        command: &'a ApplicationCommand,
    ) -> Option<&'a OrganizationId> {
        match (application, command) {
            (Some(application), _) => application.organization_id.as_ref(),
            (None, ApplicationCommand::Create { organization_id, .. }) => organization_id.as_ref(),
            (None, _) => None,
        }
    }

    fn decide(
        _id: &ApplicationId,
        application: Option<&Self>,
        command: &ApplicationCommand,
        _context: &Context<'_>,
        now: Timestamp,
    ) -> Result<Vec<Event>, Rejection> {
        decide(application, command, now)
    }
}

/// Returns the events that `command` leads to, none when nothing changes.
///
/// # Errors
/// The rule that rejects the command.
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
    use crate::domain::application::{ApplicationCreated, ApplicationSecretRotated};
    use crate::domain::record::{Personal, Record};
    use crate::domain::stream::StreamId;
    use crate::value::actor::Actor;
    use crate::value::id::EventId;
    use crate::value::position::{Position, Version};
    use crate::value::text::Name;
    use crate::value::token::{Digest, TokenHint};

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
