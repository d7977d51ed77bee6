//! The rules of an erasure: the events that each command leads to in each state.

use crate::domain::erasure::{ErasedSubject, Erasure, ErasureCommand, PersonalDataErased};
use crate::domain::event::Event;
use crate::domain::organization::Organization;
use crate::domain::rejection::Rejection;
use crate::value::subject::SubjectKeyId;

/// An event names at most this many keys, so that it fits an entry; an erasure of more has more events.
pub const KEYS_MAX: usize = 2_048;

/// Says what `command` leads to: the events to append. `organization` is the one it names, deleted or not, and `keys` are
/// the subject's as of now.
///
/// # Errors
/// The rule that refuses the command.
pub fn decide(
    erasure: Option<&Erasure>,
    organization: Option<&Organization>,
    keys: &[SubjectKeyId],
    command: &ErasureCommand,
) -> Result<Vec<Event>, Rejection> {
    let ErasureCommand::Erase { user_id, .. } = command;
    if erasure.is_some() {
        return Err(Rejection::ErasureExists);
    }
    if organization.is_none() {
        return Err(Rejection::OrganizationUnknown);
    }
    let subject = if user_id.is_some() { ErasedSubject::User } else { ErasedSubject::Organization };
    let event = |keys: &[SubjectKeyId]| {
        Event::PersonalDataErased(PersonalDataErased { subject, subject_keys: keys.to_vec() }, ())
    };
    if keys.is_empty() {
        return Ok(vec![event(&[])]);
    }
    Ok(keys.chunks(KEYS_MAX).map(event).collect())
}
