//! The state of an API, as its events leave it.

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::record::Record;
use crate::domain::stream::StreamId;
use crate::value::id::ApiId;
use crate::value::position::Version;
use crate::value::text::{Audience, Name, Scope};
use crate::value::time::Timestamp;
use crate::value::token::TokenPrefix;

/// An API, as its events leave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Api {
    /// Its id.
    pub id: ApiId,
    /// Its name.
    pub name: Name,
    /// Its audience, as in OAuth 2.0.
    pub audience: Audience,
    /// The prefix of its keys' tokens.
    pub token_prefix: TokenPrefix,
    /// All scopes that its keys may have.
    pub scopes: Vec<Scope>,
    /// The time of its registration.
    pub created_at: Timestamp,
    /// The time of its deletion.
    pub deleted_at: Option<Timestamp>,
    /// The number of its events.
    pub version: Version,
}

impl Api {
    /// Returns the API after `record`, which must be of its stream, or `None` when the record does not fit.
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
