//! The page of an organization: its details, policies and clients.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use http::{Method, StatusCode};

use crate::answer::problem::Problem;

use super::organization::{Organization, frame};
use super::policy::Policy;
use super::portfolio;
use crate::console::frame::page_frame::{Frame, Page, page};
use crate::console::parts::badge::Badge;
use crate::console::parts::icon::Icon;
use crate::console::parts::moment::Moment;
use crate::console::parts::query_string::QueryString;
use crate::console::parts::table::Table;
use crate::console::visit::visitor::Visitor;

#[derive(Template)]
#[template(path = "tenants/organization.html")]
struct OrganizationPage {
    frame: Frame,
    organization: Organization,
    badge: Badge,
    created: Moment,
    deleted: Option<Moment>,
    /// The policy of each environment.
    policies: [(&'static str, Option<Policy>); 2],
    /// The portfolio, for a partner.
    clients: Option<Table>,
    more_clients: Option<String>,
    /// Whether the visitor sees a list of organizations to go back to.
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
        // A visitor bound to one organization sees no other organization to link.
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
