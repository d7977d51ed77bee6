//! The rules of a root key: the events that each command leads to in each state.

use crate::domain::decision::{Context, Decide};
use crate::domain::event::Event;
use crate::domain::rejection::Rejection;
use crate::domain::root_key::{RootKey, RootKeyCommand, RootKeyCreatedPersonal};
use crate::value::id::{OrganizationId, RootKeyId};
use crate::value::time::Timestamp;

impl Decide for RootKey {
    fn organization_id<'a>(
        _id: &'a RootKeyId,
        root_key: Option<&'a Self>,
        command: &'a RootKeyCommand,
    ) -> Option<&'a OrganizationId> {
        match (root_key, command) {
            (Some(root_key), _) => root_key.organization_id.as_ref(),
            (None, RootKeyCommand::Create { organization_id, .. }) => organization_id.as_ref(),
            (None, RootKeyCommand::Revoke) => None,
        }
    }

    fn decide(
        _id: &RootKeyId,
        root_key: Option<&Self>,
        command: &RootKeyCommand,
        _context: &Context<'_>,
        now: Timestamp,
    ) -> Result<Vec<Event>, Rejection> {
        decide(root_key, command, now)
    }
}

/// Returns the events that `command` leads to.
///
/// # Errors
/// The rule that rejects the command.
pub fn decide(
    root_key: Option<&RootKey>,
    command: &RootKeyCommand,
    _now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    match (root_key, command) {
        (None, RootKeyCommand::Create { name, facts, .. }) => {
            let personal = RootKeyCreatedPersonal { name: name.clone() };
            Ok(vec![Event::RootKeyCreated(facts.clone(), personal)])
        }
        (Some(_), RootKeyCommand::Create { .. }) => Err(Rejection::RootKeyExists),
        (None, RootKeyCommand::Revoke) => Err(Rejection::RootKeyUnknown),
        (Some(root_key), RootKeyCommand::Revoke) => match root_key.revoked_at {
            Some(_) => Err(Rejection::RootKeyAlreadyRevoked),
            None => Ok(vec![Event::RootKeyRevoked((), ())]),
        },
    }
}
