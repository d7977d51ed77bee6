//! The field that chooses the permissions of a root key or an application.

use keyledger_engine::value::permission::Permission;
use serde_json::Value;

use crate::console::parts::field::{Choice, Field};
use crate::console::parts::form::Form;
use crate::console::visit::visitor::Visitor;

/// Explains a permission.
fn meaning(permission: Permission) -> &'static str {
    match permission.as_str() {
        "keys:create" => "Create keys",
        "keys:read" => "View keys and their usage",
        "keys:update" => "Edit keys: name, scopes, expiry",
        "keys:revoke" => "Revoke, reactivate and rotate keys",
        "keys:delete" => "Delete keys",
        "keys:verify" => "Verify tokens; enough for a gateway",
        "organizations:read" => "View organizations and policies",
        "organizations:write" => "Create and edit organizations and policies",
        "apis:read" => "View APIs",
        "apis:write" => "Register and edit APIs",
        "events:read" => "Read the audit log",
        "applications:write" => "Manage applications",
        "portal:write" => "Invite people to the portal",
        "webhooks:write" => "Manage webhooks",
        "admin" => "Everything, including root keys",
        _ => "",
    }
}

/// A field with the permissions of the visitor, because no one can grant a permission that they lack.
pub(crate) fn field(visitor: &Visitor) -> Field {
    let known = Permission::names().filter_map(|name| name.parse::<Permission>().ok());
    let own = known.filter(|permission| visitor.principal.may(*permission));
    let choices = own.map(|it| Choice::new(it.as_str(), it.as_str(), meaning(it))).collect();
    Field::any_of("permissions", "Permissions", choices)
}

/// The chosen permissions, for a request body.
pub(crate) fn chosen(form: &Form) -> Value {
    form.texts("permissions").map(Value::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_permission_is_explained() {
        for name in Permission::names() {
            assert!(!meaning(name.parse().unwrap()).is_empty(), "{name}");
        }
    }
}
