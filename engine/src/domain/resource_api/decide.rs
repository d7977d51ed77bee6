//! The rules of an API: the events that each command leads to in each state.

use crate::domain::decision::{Context, Decide};
use crate::domain::event::Event;
use crate::domain::rejection::Rejection;
use crate::domain::resource_api::{Api, ApiCommand, ApiRenamed, ApiScopesChanged};
use crate::value::id::{ApiId, OrganizationId};
use crate::value::text::is_same_set;
use crate::value::time::Timestamp;

impl Decide for Api {
    fn organization_id<'a>(
        _id: &'a ApiId,
        _api: Option<&'a Self>,
        _command: &'a ApiCommand,
    ) -> Option<&'a OrganizationId> {
        None
    }

    fn decide(
        _id: &ApiId,
        api: Option<&Self>,
        command: &ApiCommand,
        _context: &Context<'_>,
        now: Timestamp,
    ) -> Result<Vec<Event>, Rejection> {
        decide(api, command, now)
    }
}

/// Returns the events that `command` leads to, none when nothing changes.
///
/// # Errors
/// The rule that rejects the command.
pub fn decide(api: Option<&Api>, command: &ApiCommand, _now: Timestamp) -> Result<Vec<Event>, Rejection> {
    let api = match (api, command) {
        (None, ApiCommand::Register(facts)) => return Ok(vec![Event::ApiRegistered(facts.clone(), ())]),
        (None, _) => return Err(Rejection::ApiUnknown),
        (Some(_), ApiCommand::Register(_)) => return Err(Rejection::ApiExists),
        (Some(api), _) => api,
    };
    if api.deleted_at.is_some() {
        return Err(Rejection::ApiDeleted);
    }
    let mut events = Vec::new();
    match command {
        ApiCommand::Register(_) => {}
        ApiCommand::Edit { name, scopes } => {
            if let Some(name) = name.as_ref().filter(|name| **name != api.name) {
                events.push(Event::ApiRenamed(ApiRenamed { name: name.clone() }, ()));
            }
            if let Some(scopes) = scopes.as_ref().filter(|scopes| !is_same_set(scopes, &api.scopes)) {
                events.push(Event::ApiScopesChanged(ApiScopesChanged { scopes: scopes.clone() }, ()));
            }
        }
        ApiCommand::Delete => events.push(Event::ApiDeleted((), ())),
    }
    Ok(events)
}
