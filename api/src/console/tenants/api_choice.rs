//! The APIs that keys can be for, to choose from and to name.

use http::Method;
use serde::Deserialize;

use crate::answer::problem::Problem;

use crate::console::visit::visitor::Visitor;

/// APIs that are offered; one past them is named by its id.
const OFFERED_MAX: usize = 200;

/// An API.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Api {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The scopes that its keys may carry.
    pub scopes: Vec<String>,
    /// Whether it was deleted.
    pub deleted_at: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Api>,
}

/// The APIs that somebody may see.
#[derive(Debug, Default)]
pub(crate) struct Apis(Vec<Api>);

impl Apis {
    /// Reads them; none for somebody who may not.
    ///
    /// # Errors
    /// What the call answers.
    pub(crate) async fn read(visitor: &Visitor) -> Result<Self, Problem> {
        if !visitor.may(&Method::GET, "/v1/apis") {
            return Ok(Self::default());
        }
        visitor.read(&format!("/v1/apis?limit={OFFERED_MAX}")).await.map(|page: Page| Self(page.data))
    }

    /// Those that a key can be made for.
    pub(crate) fn offered(&self) -> impl Iterator<Item = &Api> {
        self.0.iter().filter(|api| api.deleted_at.is_none())
    }

    /// One of them.
    pub(crate) fn find(&self, id: &str) -> Option<&Api> {
        self.0.iter().find(|api| api.id == id)
    }

    /// The name of one, or its id.
    pub(crate) fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.find(id).map_or(id, |api| &api.name)
    }
}
