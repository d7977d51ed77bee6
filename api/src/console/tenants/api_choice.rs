//! The registered APIs, to offer and to name in forms.

use http::Method;
use serde::Deserialize;

use crate::answer::problem::Problem;

use crate::console::visit::visitor::Visitor;

/// The number of APIs that are offered. Further APIs appear by their ids.
const OFFERED_MAX: usize = 200;

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Api {
    pub id: String,
    pub name: String,
    pub scopes: Vec<String>,
    pub deleted_at: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Api>,
}

/// The APIs that a visitor may see.
#[derive(Debug, Default)]
pub(crate) struct Apis(Vec<Api>);

impl Apis {
    /// Reads the APIs. Returns an empty list to a visitor who may not list them.
    ///
    /// # Errors
    /// The problem that the API returns.
    pub(crate) async fn read(visitor: &Visitor) -> Result<Self, Problem> {
        if !visitor.may(&Method::GET, "/v1/apis") {
            return Ok(Self::default());
        }
        visitor.read(&format!("/v1/apis?limit={OFFERED_MAX}")).await.map(|page: Page| Self(page.data))
    }

    /// The APIs that a key can be created for.
    pub(crate) fn offered(&self) -> impl Iterator<Item = &Api> {
        self.0.iter().filter(|api| api.deleted_at.is_none())
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Api> {
        self.0.iter().find(|api| api.id == id)
    }

    /// The name of an API, or its id if it is not in the list.
    pub(crate) fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.find(id).map_or(id, |api| &api.name)
    }
}
