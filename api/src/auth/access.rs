//! Access rights: the one table of endpoints and permissions. [`Caller`](crate::auth::caller::Caller) checks
//! it before an endpoint runs. docs/permissions.md and the access rights in the OpenAPI document are
//! generated from it. [`keyledger_engine::value::role`] has the permissions of each role.

use std::borrow::Cow;
use std::fmt::Write;

use http::Method;
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::role::Role;

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use crate::auth::principal::Principal;

/// Who may use an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everyone. The endpoint itself checks any other credential.
    Everyone,
    /// Callers with a portal session.
    PortalSession,
    /// Callers with all of these permissions.
    Needs(&'static [Permission]),
    /// Callers with all of these permissions that are not bound to an organization.
    NeedsUnbound(&'static [Permission]),
    /// Callers with all of the first permissions. Callers that see only their own keys need all of the second
    /// instead.
    NeedsOrOwn(&'static [Permission], &'static [Permission]),
}

use Access::{Everyone, Needs, NeedsOrOwn, NeedsUnbound, PortalSession};
use Permission::{
    Admin, ApisRead, ApisWrite, ApplicationsWrite, EventsRead, KeysCreate, KeysDelete, KeysRead, KeysRevoke,
    KeysUpdate, KeysVerify, OrganizationsRead, OrganizationsWrite, PortalWrite, WebhooksWrite,
};

/// The endpoint that also authenticates applications by their secret.
pub(crate) const INTROSPECTION: &str = "/oauth2/introspect";

/// Every endpoint: its method, its path as in the OpenAPI document, and who may use it.
pub(crate) const ENDPOINTS: &[(&str, &str, Access)] = &[
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
    ("POST", "/v1/keys/self-revoke", Everyone),
    ("POST", "/v1/keys/verify", Needs(&[KeysVerify])),
    ("POST", "/v1/keys/verify-batch", Needs(&[KeysVerify])),
    ("GET", "/v1/forward-auth", Everyone),
    ("HEAD", "/v1/forward-auth", Everyone),
    ("POST", "/v1/forward-auth", Everyone),
    ("PUT", "/v1/forward-auth", Everyone),
    ("PATCH", "/v1/forward-auth", Everyone),
    ("DELETE", "/v1/forward-auth", Everyone),
    ("OPTIONS", "/v1/forward-auth", Everyone),
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
    ("DELETE", "/v1/organizations/{id}", NeedsUnbound(&[OrganizationsWrite])),
    ("GET", "/v1/organizations/{id}/policies/{environment}", Needs(&[OrganizationsRead])),
    ("PUT", "/v1/organizations/{id}/policies/{environment}", NeedsUnbound(&[OrganizationsWrite])),
    ("DELETE", "/v1/organizations/{id}/policies/{environment}", NeedsUnbound(&[OrganizationsWrite])),
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
    ("GET", "/v1/console-sessions", Needs(&[Admin])),
    ("DELETE", "/v1/console-sessions/{id}", Needs(&[Admin])),
    ("POST", "/portal/session", Everyone),
    ("GET", "/portal/session", PortalSession),
    ("DELETE", "/portal/session", PortalSession),
    ("POST", "/oauth2/token", Everyone),
    ("POST", INTROSPECTION, Needs(&[KeysVerify])),
    ("GET", "/.well-known/oauth-authorization-server", Everyone),
    ("GET", "/.well-known/jwks.json", Everyone),
    ("GET", "/v1/events/{position}/proof", Needs(&[EventsRead])),
    ("GET", "/v1/log/verifications", Needs(&[EventsRead])),
    ("POST", "/v1/log/verifications", NeedsUnbound(&[EventsRead])),
    ("GET", "/v1/backup", NeedsUnbound(&[Admin])),
    ("GET", "/v1/projections", NeedsUnbound(&[Admin])),
    ("GET", "/v1/projections/{name}", NeedsUnbound(&[Admin])),
    ("POST", "/v1/projections/{name}/rebuild", NeedsUnbound(&[Admin])),
    ("GET", "/log/checkpoint", Everyone),
    ("GET", "/log/key", Everyone),
    ("GET", "/log/tile/{level}/{index}", Everyone),
    ("GET", "/log/tile/entries/{index}", NeedsUnbound(&[EventsRead])),
    ("GET", "/healthz", Everyone),
    ("GET", "/readyz", Everyone),
    ("GET", "/metrics", Everyone),
];

/// Every endpoint in the form of another service, which `--compat` turns on. The OpenAPI document does not
/// have them.
const COMPAT_ENDPOINTS: &[(&str, &str, Access)] = &[
    ("GET", "/api/v1/api_keys", Needs(&[KeysRead])),
    ("POST", "/api/v1/api_keys", Needs(&[KeysCreate])),
    ("GET", "/api/v1/api_keys/{key_id}", Needs(&[KeysRead])),
    ("PUT", "/api/v1/api_keys/{key_id}", Needs(&[KeysRevoke])),
    ("DELETE", "/api/v1/api_keys/{key_id}", Needs(&[KeysDelete])),
    ("POST", "/api/v1/api_keys/verify", Needs(&[KeysVerify])),
    ("GET", "/api/v1/apis", Needs(&[ApisRead])),
    ("POST", "/api/v1/apis", NeedsUnbound(&[ApisWrite])),
    ("GET", "/api/v1/apis/{api_id}", Needs(&[ApisRead])),
    ("DELETE", "/api/v1/apis/{api_id}", NeedsUnbound(&[ApisWrite])),
    ("GET", "/api/v1/apis/{api_id}/scopes", Needs(&[ApisRead])),
    ("POST", "/api/v1/apis/{api_id}/scopes", NeedsUnbound(&[ApisWrite])),
    ("GET", "/api/v1/apis/{api_id}/scopes/{scope_id}", Needs(&[ApisRead])),
    ("DELETE", "/api/v1/apis/{api_id}/scopes/{scope_id}", NeedsUnbound(&[ApisWrite])),
    // Only owners and admins have all permissions of these rows: members lack `organizations:read`, and
    // auditors `keys:create`.
    ("POST", "/v2/partner/api_keys", Needs(&[KeysCreate, OrganizationsRead])),
    ("GET", "/v2/partner/api_keys", Needs(&[KeysRead, KeysCreate, OrganizationsRead])),
    ("DELETE", "/v2/partner/api_keys/{api_key_id}", Needs(&[KeysDelete, OrganizationsRead])),
    ("POST", "/v1/organizations/api_keys", Needs(&[KeysCreate, OrganizationsRead])),
];

impl Access {
    /// Returns who may use an endpoint, or `None` if it is not in the table.
    #[must_use]
    pub(crate) fn to(method: &Method, path: &str) -> Option<Self> {
        // The router marks a parameter that may contain slashes with a star.
        let path = if path.contains('*') { path.replace("{*", "{").into() } else { Cow::Borrowed(path) };
        let rows = || ENDPOINTS.iter().chain(COMPAT_ENDPOINTS);
        let row = |method: &str| rows().find(|row| row.1 == path && row.0 == method);
        // The router answers HEAD with the GET endpoint unless HEAD has its own row.
        let row = row(method.as_str()).or_else(|| row("GET").filter(|_| method == Method::HEAD));
        row.map(|row| row.2)
    }

    /// Returns the permissions that a caller needs unless it sees only its own keys.
    #[must_use]
    pub(crate) const fn permissions(self) -> &'static [Permission] {
        match self {
            Self::Everyone | Self::PortalSession => &[],
            Self::Needs(permissions) | Self::NeedsUnbound(permissions) | Self::NeedsOrOwn(permissions, _) => {
                permissions
            }
        }
    }

    /// Checks that a caller may use the endpoint.
    ///
    /// # Errors
    /// `forbidden`, naming what the caller lacks.
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
                Err(Problem::new(Code::Forbidden, "only callers with a portal session may use this endpoint"))
            }
            Self::NeedsUnbound(_) if principal.organization_id.is_some() => Err(Problem::new(
                Code::Forbidden,
                "this endpoint concerns more than the organization that the caller is bound to",
            )),
            _ => Ok(()),
        }
    }

    /// Returns `yes`, `own` or nothing: whether a role may use the endpoint in its own organization.
    #[must_use]
    fn of_role(self, role: Role) -> &'static str {
        let has = |permissions: &[Permission]| permissions.iter().all(|it| role.permissions().contains(it));
        match self {
            Self::Everyone | Self::PortalSession => "yes",
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
        "# Access rights\n\n\
        Generated by `keyledger permissions` from the table that the service checks. A test sends a \
        request to every endpoint below with every permission and every role, and compares.\n\n\
        Root keys and applications have permissions; `admin` includes all of them. Both can be bound to \
        one organization, and then see no other. People have a role in one organization, from their \
        portal session or from a claim of their OpenID provider. A person without a role in an existing \
        organization may do nothing. A `member` sees only the keys of one user, its own; every other \
        key is reported as not found. An object that a caller may not see is 404; an action that a \
        caller may not take is 403.\n\n\
        For its own keys, a member sees what was done, when and by which actor, but not the addresses \
        of other actors. Other callers that are bound to an organization see the addresses of its own \
        people and credentials, but not those of the installation's operators. The same holds for its \
        webhooks.\n\n\
        Nobody hands on what they lack. The permissions of a new root key or application, of an \
        application that is changed, deleted or gets a new secret, and of the role that a portal link \
        is for must all be the caller's own, and in the caller's organization if it is bound to one. \
        So letting a person in takes `portal:write` and every permission of that person's role. \
        Nothing outlasts who created it, either: a portal link or session expires no later than the \
        credential that created it, and ends at once when that root key is revoked, that application \
        deleted, or that portal session over.\n\n\
        An organization's kind, its policies and its deletion belong to the installation's operators: \
        a caller that is bound to the organization can only rename it.\n\n\
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
    text.push_str("\n\n## Endpoints\n");
    push_endpoints(&mut text, ENDPOINTS);
    text.push_str(
        "\n## Endpoints of other services\n\n\
        Only with `--compat`. Their errors have the form of those services' errors.\n",
    );
    push_endpoints(&mut text, COMPAT_ENDPOINTS);
    text
}

fn push_endpoints(text: &mut String, endpoints: &[(&str, &str, Access)]) {
    text.push_str("\n| endpoint | needs |");
    for role in Role::ALL {
        let _ = write!(text, " {role} |");
    }
    text.push_str("\n|---|---|");
    text.push_str(&":-:|".repeat(Role::ALL.len()));
    for (method, path, access) in endpoints {
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
        Access::Everyone => "nothing".into(),
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
    fn every_endpoint_has_one_row_and_every_row_an_endpoint() {
        let document = serde_json::to_value(crate::routes::endpoints().1).unwrap();
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                documented.insert((method.to_uppercase(), path.clone()));
            }
        }
        let rows: BTreeSet<_> = ENDPOINTS.iter().map(|row| (row.0.to_owned(), row.1.to_owned())).collect();
        assert_eq!(documented, rows);
        assert_eq!(rows.len(), ENDPOINTS.len(), "an endpoint has two rows");
    }

    #[test]
    fn an_endpoint_without_a_row_is_inaccessible() {
        assert_eq!(Access::to(&Method::GET, "/v1/unheard-of"), None);
        assert_eq!(Access::to(&Method::HEAD, "/v1/keys"), Some(Needs(&[KeysRead])));
        assert_eq!(Access::to(&Method::HEAD, "/v1/keys/{id}/revoke"), None);
    }
}
