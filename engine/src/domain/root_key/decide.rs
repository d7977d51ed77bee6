//! The rules of a root key: the events that each command leads to in each state.

use crate::domain::event::Event;
use crate::domain::rejection::Rejection;
use crate::domain::root_key::{RootKey, RootKeyCommand, RootKeyCreatedPersonal};
use crate::value::time::Timestamp;

/// Says what `command` leads to: the events to append.
///
/// # Errors
/// The rule that refuses the command.
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
