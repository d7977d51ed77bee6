//! The rules of an erasure: the events that each command leads to in each state.

use crate::domain::decision::{Context, Decide, Reads};
use crate::domain::erasure::{ErasedSubject, Erasure, ErasureCommand, PersonalDataErased};
use crate::domain::event::Event;
use crate::domain::organization::Organization;
use crate::domain::rejection::Rejection;
use crate::value::id::{ErasureId, OrganizationId};
use crate::value::subject::{Subject, SubjectKeyId};
use crate::value::time::Timestamp;

/// The most keys in one event, so that the event fits an entry. An erasure of more keys has more events.
pub const KEYS_MAX: usize = 2_048;

impl Decide for Erasure {
    fn organization_id<'a>(
        _id: &'a ErasureId,
        _erasure: Option<&'a Self>,
        command: &'a ErasureCommand,
    ) -> Option<&'a OrganizationId> {
        let ErasureCommand::Erase { organization_id, .. } = command;
        Some(organization_id)
    }

    /// The installation: the record of an erasure outlives it, with the address that its actor called from.
    fn subject(_id: &ErasureId, _erasure: Option<&Self>, _command: &ErasureCommand) -> Subject {
        Subject::Installation
    }

    fn reads<'a>(_id: &'a ErasureId, _erasure: Option<&'a Self>, command: &'a ErasureCommand) -> Reads<'a> {
        let ErasureCommand::Erase { organization_id, user_id } = command;
        let subject = Some(Subject::of(Some(organization_id), user_id.as_ref()));
        Reads { subject, ..Reads::organization(Some(organization_id)) }
    }

    fn decide(
        _id: &ErasureId,
        erasure: Option<&Self>,
        command: &ErasureCommand,
        context: &Context<'_>,
        _now: Timestamp,
    ) -> Result<Vec<Event>, Rejection> {
        decide(erasure, context.organization, &context.subject_keys, command)
    }
}

/// Returns the events that `command` leads to. `organization` is the one that it names, deleted or not, and
/// `keys` are the names of the subject's current keys.
///
/// # Errors
/// The rule that rejects the command.
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
