//! The organization that an object belongs or is bound to. Visitors who see several organizations choose one;
//! for others it is their own.

use http::Method;
use serde_json::Value;

use super::organization::Organization;
use crate::console::frame::list_page::Things;
use crate::console::parts::field::Field;
use crate::console::parts::form::Form;
use crate::console::parts::query_string::QueryString;
use crate::console::parts::table::Cell;
use crate::console::visit::visitor::Visitor;

/// The number of organizations that are offered at first. Typing finds others.
const OFFERED_MAX: usize = 50;

/// A field for an organization's id, or `None` for a visitor who is bound to one.
pub(crate) async fn field(visitor: &Visitor, name: &'static str, label: &'static str) -> Option<Field> {
    if visitor.principal.organization_id.is_some() {
        return None;
    }
    Some(Field::offering(name, label, offered(visitor).await, "/v1/organizations"))
}

/// A field that optionally limits a new object to one organization.
pub(crate) async fn limit_field(visitor: &Visitor, hint: &'static str) -> Option<Field> {
    let field = field(visitor, "organization_id", "Limit to organization").await;
    field.map(|field| field.optional().hint(hint))
}

/// Appends the chosen organization to the path of a form, so that the form starts with it.
pub(crate) fn kept(visitor: &Visitor, path: &str) -> String {
    let query = QueryString::of(&visitor.address);
    QueryString::default().with("organization_id", query.get("organization_id")).after(path)
}

/// A form that starts with the organization in the address.
pub(crate) fn form(visitor: &Visitor) -> Form {
    let query = QueryString::of(&visitor.address);
    Form::default().and("organization_id", query.get("organization_id").unwrap_or_default())
}

/// Column heads with an organization column in between, which only visitors who see several organizations
/// need.
pub(crate) fn columns(
    visitor: &Visitor,
    before: &[&'static str],
    after: &[&'static str],
) -> Vec<&'static str> {
    let organization = visitor.principal.organization_id.is_none().then_some("Organization");
    before.iter().copied().chain(organization).chain(after.iter().copied()).collect()
}

/// The cell of the organization column. An object without an organization applies to all.
pub(crate) fn cell(visitor: &Visitor, organization: Option<&str>) -> Option<Cell> {
    let text = organization.unwrap_or("All").to_owned();
    visitor.principal.organization_id.is_none().then_some(Cell::Text(Some(text)))
}

/// The first organizations by id and name.
async fn offered(visitor: &Visitor) -> Vec<(String, String)> {
    if !visitor.may(&Method::GET, "/v1/organizations") {
        return Vec::new();
    }
    let path = format!("/v1/organizations?limit={OFFERED_MAX}");
    let things: Result<Things<Organization>, _> = visitor.read(&path).await;
    let active = things.into_iter().flat_map(|it| it.data).filter(|it| it.status == "active");
    active.map(|it| (it.id.clone(), it.label().to_owned())).collect()
}

/// The organization's id for a request: the visitor's own, or the one in the form.
pub(crate) fn id(visitor: &Visitor, form: &Form) -> Value {
    match &visitor.principal.organization_id {
        Some(id) => id.as_str().into(),
        None => form.json("organization_id"),
    }
}
