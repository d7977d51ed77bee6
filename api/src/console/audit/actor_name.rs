//! Names of actors for display.

use std::collections::HashMap;

use serde::Deserialize;

use super::event::Actor;
use crate::console::parts::query_string::encoded;
use crate::console::visit::visitor::Visitor;

/// The names of some actors by id.
#[derive(Debug, Default)]
pub(crate) struct ActorNames(HashMap<String, String>);

impl ActorNames {
    /// Finds the names of actors. A root key or application that the visitor may not read is shown by its id.
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
    let id = &actor.id;
    match actor.kind.as_str() {
        "system" => "Keyledger".into(),
        "root_key" => match name_at(visitor, "/v1/root-keys", id).await {
            Some(name) => format!("{name} (root key)"),
            None => format!("Root key {id}"),
        },
        "application" => match name_at(visitor, "/v1/applications", id).await {
            Some(name) => format!("{name} (application)"),
            None => format!("Application {id}"),
        },
        "portal_session" => visitor.session_user(id).await.unwrap_or_else(|| format!("Portal session {id}")),
        _ => format!("{id} (user)"),
    }
}

/// An object with a name, as the API returns it.
#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

/// Returns the name of an object in a collection, if the visitor may read it and it has one.
async fn name_at(visitor: &Visitor, collection: &str, id: &str) -> Option<String> {
    visitor.read::<Named>(&format!("{collection}/{}", encoded(id))).await.ok()?.name
}
