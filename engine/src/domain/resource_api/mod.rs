//! The API: a registered resource server, whose scopes keys may carry.

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::record::Record;
use crate::domain::rejection::Rejection;
use crate::domain::stream::StreamId;
use crate::value::id::ApiId;
use crate::value::position::Version;
use crate::value::text::{Audience, Name, Scope, is_same_set};
use crate::value::time::Timestamp;
use crate::value::token::TokenPrefix;

/// An API was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiRegistered {
    /// What people call it.
    pub name: Name,
    /// Whom its tokens are for, as OAuth 2.0 says audience.
    pub audience: Audience,
    /// What its keys' tokens begin with; never changes.
    pub token_prefix: TokenPrefix,
    /// All scopes that its keys may carry.
    pub scopes: Vec<Scope>,
}

/// An API has another name than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiRenamed {
    /// Its name from now on.
    pub name: Name,
}

/// An API has other scopes than before. Keys keep what they carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiScopesChanged {
    /// All its scopes from now on.
    pub scopes: Vec<Scope>,
}

/// What can be asked of an API.
#[derive(Debug, Clone)]
pub enum ApiCommand {
    /// Register it.
    Register(ApiRegistered),
    /// Change what `Some` names.
    Edit {
        /// New name.
        name: Option<Name>,
        /// New scopes.
        scopes: Option<Vec<Scope>>,
    },
    /// Delete it: its keys are refused from then on.
    Delete,
}

/// An API as its events have left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Api {
    /// Its id.
    pub id: ApiId,
    /// What people call it.
    pub name: Name,
    /// Whom its tokens are for.
    pub audience: Audience,
    /// What its keys' tokens begin with.
    pub token_prefix: TokenPrefix,
    /// All scopes that its keys may carry.
    pub scopes: Vec<Scope>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// How many events it has.
    pub version: Version,
}

impl Api {
    /// The API after `record`, which must be of its stream; `None` comes back when it does not fit.
    #[must_use]
    pub fn apply(api: Option<Self>, record: &Record) -> Option<Self> {
        let StreamId::Api(id) = record.stream else { return None };
        let mut api = match (api, &record.event) {
            (None, Event::ApiRegistered(facts, ())) => {
                return Some(Self {
                    id,
                    name: facts.name.clone(),
                    audience: facts.audience.clone(),
                    token_prefix: facts.token_prefix.clone(),
                    scopes: facts.scopes.clone(),
                    created_at: record.time,
                    deleted_at: None,
                    version: record.version,
                });
            }
            (None, _) => return None,
            (Some(api), _) => api,
        };
        match &record.event {
            Event::ApiRenamed(facts, ()) => api.name.clone_from(&facts.name),
            Event::ApiScopesChanged(facts, ()) => api.scopes.clone_from(&facts.scopes),
            Event::ApiDeleted((), ()) => api.deleted_at = Some(record.time),
            _ => return None,
        }
        api.version = record.version;
        Some(api)
    }
}

/// Says what `command` leads to: the events to append, none when nothing changes.
///
/// # Errors
/// The rule that refuses the command.
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
