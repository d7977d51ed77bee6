//! An organization as pages show it, and its own page: what it is, what it demands of its keys, whom it has as clients.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use http::{Method, StatusCode};
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;

use crate::answer::problem::Problem;

use super::policy::Policy;
use super::portfolio;
use crate::console::frame::icon::Icon;
use crate::console::frame::navigation::Section;
use crate::console::frame::page_frame::{Frame, Page, page};
use crate::console::frame::toast::shortened;
use crate::console::parts::badge::Badge;
use crate::console::parts::moment::Moment;
use crate::console::parts::query_string::{QueryString, encoded};
use crate::console::parts::table::Table;
use crate::console::visit::visitor::Visitor;

/// What an organization can be: the word of the call, and what it means.
pub(crate) const KINDS: [(&str, &str, &str); 4] = [
    ("test", "Test", "Tries things out"),
    ("paid", "Paid", "A customer"),
    ("partner", "Partner", "Works for clients of its own"),
    ("free", "Free", "Has no keys"),
];

/// An organization as the calls answer it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Organization {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: Option<String>,
    /// What it is.
    pub kind: String,
    /// Where it stands.
    pub status: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// How many events it has.
    pub version: u32,
}

impl Organization {
    /// Reads one.
    ///
    /// # Errors
    /// What the call answers.
    pub(crate) async fn read(visitor: &Visitor, id: &str) -> Result<Self, Problem> {
        visitor.read(&call_path(id, "")).await
    }

    /// The name, or what stands for it.
    pub(crate) fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }

    /// The name as it stands in a sentence.
    pub(crate) fn short_label(&self) -> String {
        shortened(self.label())
    }

    /// Its page, with `tail` after it.
    pub(crate) fn path(&self, tail: &str) -> String {
        path(&self.id, tail)
    }

    /// Whether it is there still.
    pub(crate) fn is_active(&self) -> bool {
        self.status == "active"
    }

    /// What it is, in a word for people.
    pub(crate) fn kind_word(&self) -> &str {
        KINDS.iter().find(|(kind, ..)| *kind == self.kind).map_or(self.kind.as_str(), |(_, name, _)| name)
    }
}

/// The path of an organization's page, with `tail` after it.
pub(crate) fn path(id: &str, tail: &str) -> String {
    format!("/console/organizations/{}{tail}", encoded(id))
}

/// The path of an organization's call, with `tail` after it.
pub(crate) fn call_path(id: &str, tail: &str) -> String {
    format!("/v1/organizations/{}{tail}", encoded(id))
}

/// The frame of a page about an organization.
pub(crate) async fn frame(visitor: &Visitor, title: &str, id: &str) -> Frame {
    Frame::of(visitor, title, Some(Section::Organizations), Some(id)).await
}

#[derive(Template)]
#[template(path = "organization.html")]
struct OrganizationPage {
    frame: Frame,
    organization: Organization,
    badge: Badge,
    created: Moment,
    deleted: Option<Moment>,
    /// What it demands, in each environment.
    policies: [(&'static str, Option<Policy>); 2],
    /// Its clients, if it is a partner.
    clients: Option<Table>,
    more_clients: Option<String>,
    /// Whether there is a list to go back to.
    is_one_of_many: bool,
    may_edit: bool,
    may_delete: bool,
    may_set_policies: bool,
    may_link: bool,
    violations: Option<String>,
    keys: Option<String>,
}

page!(OrganizationPage);

/// Shows an organization.
pub(crate) async fn show(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Problem> {
    let organization = Organization::read(&visitor, &id).await?;
    let may = |method: Method, tail: &str| {
        organization.is_active() && visitor.may(&method, &format!("/v1/organizations/{{id}}{tail}"))
    };
    let may_unlink = organization.is_active()
        && visitor.may(&Method::DELETE, "/v1/organizations/{partner}/clients/{client}");
    let cursor = QueryString::of(&visitor.address).get("cursor").map(ToOwned::to_owned);
    let (clients, more_clients) = if organization.kind == "partner" {
        let (table, next) = portfolio::table(&visitor, &organization, may_unlink, cursor.as_deref()).await?;
        (Some(table), next)
    } else {
        (None, None)
    };
    let shown = OrganizationPage {
        frame: frame(&visitor, organization.label(), &id).await,
        badge: Badge::of(&organization.status),
        created: Moment::new(organization.created_at, visitor.now),
        deleted: organization.deleted_at.map(|at| Moment::new(at, visitor.now)),
        policies: [
            ("production", Policy::read(&visitor, &id, "production").await?),
            ("preview", Policy::read(&visitor, &id, "preview").await?),
        ],
        clients,
        more_clients,
        is_one_of_many: visitor.principal.organization_id.is_none(),
        may_edit: may(Method::PATCH, ""),
        may_delete: may(Method::DELETE, ""),
        may_set_policies: may(Method::PUT, "/policies/{environment}"),
        // Whoever is bound to one organization sees no other that could be linked to it.
        may_link: may_unlink && visitor.principal.organization_id.is_none(),
        violations: visitor
            .may(&Method::GET, "/v1/organizations/{id}/policy-violations")
            .then(|| organization.path("/violations")),
        keys: visitor
            .may(&Method::GET, "/v1/keys")
            .then(|| QueryString::default().with("organization_id", Some(&id)).after("/console/keys")),
        organization,
    };
    Ok(shown.answer(StatusCode::OK))
}
