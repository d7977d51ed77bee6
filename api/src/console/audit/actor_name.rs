//! Names of actors for display.

use std::collections::HashMap;

use http::Method;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::ledger::Aggregate;
use keyledger_engine::value::id::OrganizationId;

use super::event::Actor;
use crate::console::visit::visitor::Visitor;

/// The names of some actors by id.
#[derive(Debug, Default)]
pub(crate) struct ActorNames(HashMap<String, String>);

impl ActorNames {
    /// Finds the names of actors. Names of root keys and applications are shown only to visitors who may read
    /// those. The user of a portal session comes from the session's own events, which anyone who reads these
    /// events may read too.
    pub(crate) async fn of(visitor: &Visitor, actors: impl Iterator<Item = &Actor>) -> Self {
        let mut names = HashMap::new();
        for actor in actors {
            if !names.contains_key(&actor.id) {
                names.insert(actor.id.clone(), name(visitor, actor).await);
            }
        }
        Self(names)
    }

    /// The name of an actor, or its id.
    pub(crate) fn get<'a>(&'a self, actor: &'a Actor) -> &'a str {
        self.0.get(&actor.id).map_or(&actor.id, String::as_str)
    }
}

async fn name(visitor: &Visitor, actor: &Actor) -> String {
    let index = &visitor.service.index;
    let id = &actor.id;
    match actor.kind.as_str() {
        "system" => "Keyledger".into(),
        "root_key" => {
            let found = id.parse().ok().and_then(|id| index.root_key(id));
            let found = found.filter(|it| sees(visitor, "/v1/root-keys/{id}", it.organization_id.as_ref()));
            let name = found.as_ref().and_then(|found| found.name.as_ref());
            name.map_or_else(|| format!("Root key {id}"), |name| format!("{} (root key)", name.as_str()))
        }
        "application" => {
            let found = id.parse().ok().and_then(|id| index.application(id));
            let found =
                found.filter(|it| sees(visitor, "/v1/applications/{id}", it.organization_id.as_ref()));
            let name = found.as_ref().and_then(|found| found.name.as_ref());
            name.map_or_else(
                || format!("Application {id}"),
                |name| format!("{} (application)", name.as_str()),
            )
        }
        "portal_session" => session_name(visitor, id).await.unwrap_or_else(|| format!("Portal session {id}")),
        _ => format!("{id} (user)"),
    }
}

/// Whether a visitor may read an object of an organization, or of the installation for none.
fn sees(visitor: &Visitor, path: &str, organization_id: Option<&OrganizationId>) -> bool {
    let bound = visitor.principal.organization_id.as_ref();
    visitor.may(&Method::GET, path) && bound.is_none_or(|bound| organization_id == Some(bound))
}

async fn session_name(visitor: &Visitor, id: &str) -> Option<String> {
    let stream = StreamId::PortalSession(id.parse().ok()?);
    let read = visitor.service.read_log(move |log| log.read_stream(&stream)).await.ok()?;
    let Ok(Some(Aggregate::PortalSession(session))) = Aggregate::fold(&read.records) else { return None };
    let bound = visitor.principal.organization_id.as_ref();
    if bound.is_some_and(|bound| *bound != session.organization_id) {
        return None;
    }
    let user = session.user_id.as_ref().map_or("Portal visitor", |user_id| user_id.as_str());
    Some(format!("{user} ({})", session.role))
}
