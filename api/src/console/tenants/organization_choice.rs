//! The organization that something is to be bound to: asked for where somebody sees several.

use http::Method;
use serde_json::Value;

use super::organization::Organization;
use crate::console::frame::list_page::Things;
use crate::console::parts::field::Field;
use crate::console::parts::form::Form;
use crate::console::visit::visitor::Visitor;

/// Organizations that are offered at once; others are found while somebody types, or named by their ids.
const OFFERED_MAX: usize = 50;

/// A field for an organization's id; none for somebody who is bound to one. Some organizations are offered.
pub(crate) async fn field(visitor: &Visitor, name: &'static str, label: &'static str) -> Option<Field> {
    if visitor.principal.organization_id.is_some() {
        return None;
    }
    Some(Field::offering(name, label, offered(visitor).await, "/v1/organizations"))
}

/// Organizations that somebody sees, by id and name.
async fn offered(visitor: &Visitor) -> Vec<(String, String)> {
    if !visitor.may(&Method::GET, "/v1/organizations") {
        return Vec::new();
    }
    let path = format!("/v1/organizations?limit={OFFERED_MAX}");
    let things: Result<Things<Organization>, _> = visitor.read(&path).await;
    let active = things.into_iter().flat_map(|it| it.data).filter(|it| it.status == "active");
    active.map(|it| (it.id.clone(), it.label().to_owned())).collect()
}

/// The organization's id for a call: the one that was filled in, or the one that somebody is bound to.
pub(crate) fn id(visitor: &Visitor, form: &Form) -> Value {
    match &visitor.principal.organization_id {
        Some(id) => id.as_str().into(),
        None => form.json("organization_id"),
    }
}
