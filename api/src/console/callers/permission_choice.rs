//! The permissions of root keys and applications, to choose from.

use keyledger_engine::value::permission::Permission;
use serde_json::Value;

use crate::console::parts::field::{Choice, Field};
use crate::console::parts::form::Form;
use crate::console::visit::visitor::Visitor;

/// What a permission lets its holder do.
fn meaning(permission: Permission) -> &'static str {
    match permission.as_str() {
        "keys:create" => "Issue keys",
        "keys:read" => "See keys and their usage",
        "keys:update" => "Change names, scopes and ends of keys",
        "keys:revoke" => "Revoke, reactivate and rotate keys",
        "keys:delete" => "Delete keys",
        "keys:verify" => "Ask about tokens; all that a service needs",
        "organizations:read" => "See organizations and policies",
        "organizations:write" => "Create and change organizations and policies",
        "apis:read" => "See APIs",
        "apis:write" => "Register and change APIs",
        "events:read" => "Read the log",
        "applications:write" => "Manage applications",
        "portal:write" => "Let people in",
        "webhooks:write" => "Manage webhooks",
        "admin" => "Everything, root keys too",
        _ => "",
    }
}

/// A field for permissions: those that somebody has themselves, as nobody gives what they lack.
pub(crate) fn field(visitor: &Visitor) -> Field {
    let known = Permission::names().filter_map(|name| name.parse::<Permission>().ok());
    let own = known.filter(|permission| visitor.principal.may(*permission));
    let choices = own.map(|it| Choice::new(it.as_str(), it.as_str(), meaning(it))).collect();
    Field::any_of("permissions", "Permissions", choices)
}

/// The permissions that were chosen, for a call.
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
