//! The one table of endpoints and the permissions that they need. [`Caller`](crate::auth::caller::Caller)
//! checks it before an endpoint runs; docs/permissions.md and the OpenAPI document's permissions are
//! generated from it. The rows of other services' endpoints are beside those endpoints ([`compat`]).
//! [`keyledger_engine::value::role`] has the permissions of each role.

use std::borrow::Cow;
use std::fmt::Write;

use http::Method;
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::role::Role;

use crate::answer::problem::{Code, Problem};
use crate::auth::principal::Principal;
use crate::compat;

/// Who may use an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Every client. The endpoint may check a credential of its own.
    Everybody,
    /// Callers with a portal session.
    PortalSession,
    /// Callers with all of these permissions.
    Needs(&'static [Permission]),
    /// Callers with all of these permissions who are not bound to one organization.
    NeedsUnbound(&'static [Permission]),
    /// Callers with all of the first permissions. For callers who see only their own keys, all of the second
    /// suffice.
    NeedsOrOwn(&'static [Permission], &'static [Permission]),
}

use Access::{Everybody, Needs, NeedsOrOwn, NeedsUnbound, PortalSession};
use Permission::{
    Admin, ApisRead, ApisWrite, ApplicationsWrite, EventsRead, KeysCreate, KeysDelete, KeysRead, KeysRevoke,
    KeysUpdate, KeysVerify, OrganizationsRead, OrganizationsWrite, PortalWrite, WebhooksWrite,
};

/// Every endpoint: its method, its path as in the OpenAPI document, and who may use it.
pub(crate) const CALLS: &[(&str, &str, Access)] = &[
    ("POST", "/v1/keys", Needs(&[KeysCreate])),
    ("GET", "/v1/keys", Needs(&[KeysRead])),
    ("GET", "/v1/keys/{id}", Needs(&[KeysRead])),
    ("PATCH", "/v1/keys/{id}", Needs(&[KeysUpdate])),
    ("DELETE", "/v1/keys/{id}", Needs(&[KeysDelete])),
    ("POST", "/v1/keys/{id}/revoke", Needs(&[KeysRevoke])),
    ("POST", "/v1/keys/{id}/reactivate", Needs(&[KeysRevoke])),
    ("POST", "/v1/keys/{id}/rotate", Needs(&[KeysRevoke])),
    ("GET", "/v1/keys/{id}/events", NeedsOrOwn(&[EventsRead], &[KeysRead])),
    ("GET", "/v1/keys/{id}/usage", Needs(&[KeysRead])),
    ("GET", "/v1/usage", Needs(&[KeysRead])),
    ("GET", "/v1/overview", Needs(&[KeysRead])),
    ("POST", "/v1/keys/find", Needs(&[KeysRead, EventsRead])),
    ("POST", "/v1/keys/self-revoke", Everybody),
    ("POST", "/v1/keys/verify", Needs(&[KeysVerify])),
    ("POST", "/v1/keys/verify-batch", Needs(&[KeysVerify])),
    ("GET", "/v1/forward-auth", Everybody),
    ("HEAD", "/v1/forward-auth", Everybody),
    ("POST", "/v1/forward-auth", Everybody),
    ("PUT", "/v1/forward-auth", Everybody),
    ("PATCH", "/v1/forward-auth", Everybody),
    ("DELETE", "/v1/forward-auth", Everybody),
    ("OPTIONS", "/v1/forward-auth", Everybody),
    ("GET", "/v1/events", Needs(&[EventsRead])),
    ("POST", "/v1/webhooks", Needs(&[WebhooksWrite, EventsRead])),
    ("GET", "/v1/webhooks", Needs(&[EventsRead])),
    ("GET", "/v1/webhooks/{id}", Needs(&[EventsRead])),
    ("PATCH", "/v1/webhooks/{id}", Needs(&[WebhooksWrite, EventsRead])),
    ("DELETE", "/v1/webhooks/{id}", Needs(&[WebhooksWrite, EventsRead])),
    ("POST", "/v1/webhooks/{id}/rotate-secret", Needs(&[WebhooksWrite, EventsRead])),
    ("POST", "/v1/webhooks/{id}/test", Needs(&[WebhooksWrite, EventsRead])),
    ("GET", "/v1/webhooks/{id}/pending", Needs(&[EventsRead])),
    ("GET", "/v1/webhooks/{id}/dead-letters", Needs(&[EventsRead])),
    ("POST", "/v1/webhooks/{id}/dead-letters/{letter}/redeliver", Needs(&[WebhooksWrite, EventsRead])),
    ("POST", "/v1/webhooks/{id}/redeliver", Needs(&[WebhooksWrite, EventsRead])),
    ("POST", "/v1/organizations", NeedsUnbound(&[OrganizationsWrite])),
    ("GET", "/v1/organizations", Needs(&[OrganizationsRead])),
    ("GET", "/v1/organizations/{id}", Needs(&[OrganizationsRead])),
    ("PATCH", "/v1/organizations/{id}", Needs(&[OrganizationsWrite])),
    ("DELETE", "/v1/organizations/{id}", Needs(&[OrganizationsWrite])),
    ("GET", "/v1/organizations/{id}/policies/{environment}", Needs(&[OrganizationsRead])),
    ("PUT", "/v1/organizations/{id}/policies/{environment}", Needs(&[OrganizationsWrite])),
    ("DELETE", "/v1/organizations/{id}/policies/{environment}", Needs(&[OrganizationsWrite])),
    ("GET", "/v1/organizations/{id}/policy-violations", Needs(&[OrganizationsRead, KeysRead])),
    ("GET", "/v1/organizations/{partner}/clients", Needs(&[OrganizationsRead])),
    ("PUT", "/v1/organizations/{partner}/clients/{client}", Needs(&[OrganizationsWrite])),
    ("DELETE", "/v1/organizations/{partner}/clients/{client}", Needs(&[OrganizationsWrite])),
    ("POST", "/v1/erasures", Needs(&[Admin])),
    ("POST", "/v1/apis", NeedsUnbound(&[ApisWrite])),
    ("GET", "/v1/apis", Needs(&[ApisRead])),
    ("GET", "/v1/apis/{id}", Needs(&[ApisRead])),
    ("PATCH", "/v1/apis/{id}", NeedsUnbound(&[ApisWrite])),
    ("DELETE", "/v1/apis/{id}", NeedsUnbound(&[ApisWrite])),
    ("POST", "/v1/root-keys", Needs(&[Admin])),
    ("GET", "/v1/root-keys", Needs(&[Admin])),
    ("GET", "/v1/root-keys/{id}", Needs(&[Admin])),
    ("DELETE", "/v1/root-keys/{id}", Needs(&[Admin])),
    ("POST", "/v1/applications", Needs(&[ApplicationsWrite])),
    ("GET", "/v1/applications", Needs(&[ApplicationsWrite])),
    ("GET", "/v1/applications/{id}", Needs(&[ApplicationsWrite])),
    ("PATCH", "/v1/applications/{id}", Needs(&[ApplicationsWrite])),
    ("DELETE", "/v1/applications/{id}", Needs(&[ApplicationsWrite])),
    ("POST", "/v1/applications/{id}/rotate-secret", Needs(&[ApplicationsWrite])),
    ("POST", "/v1/portal-sessions", Needs(&[PortalWrite])),
    ("GET", "/v1/portal-sessions", Needs(&[PortalWrite])),
    ("GET", "/v1/portal-sessions/{id}", Needs(&[PortalWrite])),
    ("DELETE", "/v1/portal-sessions/{id}", Needs(&[PortalWrite])),
    ("POST", "/portal/session", Everybody),
    ("GET", "/portal/session", PortalSession),
    ("DELETE", "/portal/session", PortalSession),
    ("POST", "/oauth2/token", Everybody),
    ("POST", "/oauth2/introspect", Needs(&[KeysVerify])),
    ("GET", "/.well-known/oauth-authorization-server", Everybody),
    ("GET", "/.well-known/jwks.json", Everybody),
    ("GET", "/v1/events/{position}/proof", Needs(&[EventsRead])),
    ("GET", "/v1/log/verifications", Needs(&[EventsRead])),
    ("POST", "/v1/log/verifications", NeedsUnbound(&[EventsRead])),
    ("GET", "/v1/backup", NeedsUnbound(&[Admin])),
    ("GET", "/v1/projections", NeedsUnbound(&[Admin])),
    ("GET", "/v1/projections/{name}", NeedsUnbound(&[Admin])),
    ("POST", "/v1/projections/{name}/rebuild", NeedsUnbound(&[Admin])),
    ("GET", "/log/checkpoint", Everybody),
    ("GET", "/log/key", Everybody),
    ("GET", "/log/tile/{level}/{index}", Everybody),
    ("GET", "/log/tile/entries/{index}", NeedsUnbound(&[EventsRead])),
    ("GET", "/healthz", Everybody),
    ("GET", "/readyz", Everybody),
    ("GET", "/metrics", Everybody),
];

impl Access {
    /// Returns who may use an endpoint; none for an endpoint without a row.
    #[must_use]
    pub(crate) fn to(method: &Method, path: &str) -> Option<Self> {
        // axum marks a parameter that may contain slashes with a star.
        let path = if path.contains('*') { path.replace("{*", "{").into() } else { Cow::Borrowed(path) };
        let rows = || CALLS.iter().chain(compat::CALLS.iter().copied().flatten());
        let row = |method: &str| rows().find(|row| row.1 == path && row.0 == method);
        // A HEAD without a row of its own is answered by the GET endpoint.
        let row = row(method.as_str()).or_else(|| row("GET").filter(|_| method == Method::HEAD));
        row.map(|row| row.2)
    }

    /// The permissions that a caller needs who sees the keys of all users.
    #[must_use]
    pub(crate) const fn permissions(self) -> &'static [Permission] {
        match self {
            Self::Everybody | Self::PortalSession => &[],
            Self::Needs(permissions) | Self::NeedsUnbound(permissions) | Self::NeedsOrOwn(permissions, _) => {
                permissions
            }
        }
    }

    /// Checks that a caller may use the endpoint.
    ///
    /// # Errors
    /// `forbidden`, with the missing permission or the reason.
    pub(crate) fn admit(self, principal: &Principal) -> Result<(), Problem> {
        let needed = match self {
            Self::NeedsOrOwn(_, own) if principal.user_id.is_some() => own,
            _ => self.permissions(),
        };
        let lacking = needed.iter().find(|permission| !principal.may(**permission));
        if let Some(permission) = lacking {
            let detail = format!("the caller lacks the permission {permission}");
            return Err(Problem::new(Code::Forbidden, detail));
        }
        match self {
            Self::PortalSession
                if principal.kind != keyledger_engine::value::actor::ActorKind::PortalSession =>
            {
                Err(Problem::new(Code::Forbidden, "only whoever is signed in to the portal makes this call"))
            }
            Self::NeedsUnbound(_) if principal.organization_id.is_some() => Err(Problem::new(
                Code::Forbidden,
                "this call concerns more than the organization that the caller is bound to",
            )),
            _ => Ok(()),
        }
    }

    /// Whether a role may use the endpoint in its own organization, as a word for the table.
    #[must_use]
    fn of_role(self, role: Role) -> &'static str {
        let has = |permissions: &[Permission]| permissions.iter().all(|it| role.permissions().contains(it));
        match self {
            Self::Everybody | Self::PortalSession => "yes",
            Self::Needs(permissions) if has(permissions) => "yes",
            Self::NeedsOrOwn(_, own) if role.sees_own_keys_only() && has(own) => "own",
            Self::NeedsOrOwn(permissions, _) if !role.sees_own_keys_only() && has(permissions) => "yes",
            Self::Needs(_) | Self::NeedsUnbound(_) | Self::NeedsOrOwn(..) => "",
        }
    }
}

/// Returns the text of docs/permissions.md.
#[must_use]
pub(crate) fn document() -> String {
    let mut text = String::from(
        "# Who may do what\n\n\
        Written by `keyledger permissions` from the table that the service itself looks at; a test makes every call below \
        with every permission and every role and compares.\n\n\
        Root keys and applications carry permissions; `admin` stands for all of them. Both may be bound to one \
        organization, and then see no other. People have a role in one organization, from the portal session that they \
        were let in with or from a claim of their OpenID provider; who has no role in an organization that is there may do nothing. A `member` sees the keys of one user, their own; every \
        other key is as if it were not there. What a caller may not see is 404, what they may not do is 403.\n\n\
        Of what happened to their own keys, members are told what was done, when and by whom, but not from which addresses \
        others did it.\n\n\
        Whoever has `portal:write` lets people in with any role. Nobody gives an application a permission that they lack.\n\n\
        ## Roles\n\n| permission |",
    );
    for role in Role::ALL {
        let _ = write!(text, " {role} |");
    }
    text.push_str("\n|---|");
    text.push_str(&":-:|".repeat(Role::ALL.len()));
    for permission in Permission::names().filter_map(|name| name.parse::<Permission>().ok()) {
        let _ = write!(text, "\n| `{permission}` |");
        for role in Role::ALL {
            let own = if role.sees_own_keys_only() && permission.as_str().starts_with("keys:") {
                "own"
            } else {
                "yes"
            };
            let _ = write!(text, " {} |", if role.permissions().contains(&permission) { own } else { "" });
        }
    }
    text.push_str("\n\n## Calls\n");
    push_calls(&mut text, CALLS.iter());
    text.push_str("\n## Calls of other services\n\nThere only with `--compat`; their errors are in the form that those services give them.\n");
    push_calls(&mut text, compat::CALLS.iter().copied().flatten());
    text
}

fn push_calls<'a>(text: &mut String, calls: impl Iterator<Item = &'a (&'a str, &'a str, Access)>) {
    text.push_str("\n| call | needs |");
    for role in Role::ALL {
        let _ = write!(text, " {role} |");
    }
    text.push_str("\n|---|---|");
    text.push_str(&":-:|".repeat(Role::ALL.len()));
    for (method, path, access) in calls {
        let _ = write!(text, "\n| `{method} {path}` | {} |", needs(*access));
        for role in Role::ALL {
            let _ = write!(text, " {} |", access.of_role(role));
        }
    }
    text.push('\n');
}

fn needs(access: Access) -> String {
    let names = |permissions: &[Permission]| {
        permissions.iter().map(|permission| format!("`{permission}`")).collect::<Vec<_>>().join(", ")
    };
    match access {
        Access::Everybody => "nothing".into(),
        Access::PortalSession => "a portal session".into(),
        Access::Needs(permissions) => names(permissions),
        Access::NeedsUnbound(permissions) => format!("{}, unbound", names(permissions)),
        Access::NeedsOrOwn(permissions, own) => {
            format!("{}; for own keys {}", names(permissions), names(own))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_call_has_its_row_and_every_row_its_call() {
        let document = serde_json::to_value(crate::routes::calls().1).unwrap();
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                documented.insert((method.to_uppercase(), path.clone()));
            }
        }
        let rows: BTreeSet<_> = CALLS.iter().map(|row| (row.0.to_owned(), row.1.to_owned())).collect();
        assert_eq!(documented, rows);
        assert_eq!(rows.len(), CALLS.len(), "a call has two rows");
    }

    #[test]
    fn a_call_without_a_row_is_for_nobody() {
        assert_eq!(Access::to(&Method::GET, "/v1/unheard-of"), None);
        assert_eq!(Access::to(&Method::HEAD, "/v1/keys"), Some(Needs(&[KeysRead])));
        assert_eq!(Access::to(&Method::HEAD, "/v1/keys/{id}/revoke"), None);
    }
}
