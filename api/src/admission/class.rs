//! What a request asks for, as far as limits are concerned.

use http::Method;

use super::change::Change;

/// The class of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// The health of the service, which no limit applies to.
    Health,
    /// Reads.
    Read,
    /// Issues a command. The command is what counts ([`Permit`](super::permit::Permit)), so that a request
    /// that fails before takes nothing from the caller; the request itself is refused when nothing is left.
    Command(Change),
    /// Makes the service do something without a command. The request counts as a change.
    Action,
    /// Verifies tokens.
    Verification,
}

/// Endpoints that change nothing, or that their method says too little about.
const ODD: [(&str, Class); 9] = [
    ("/healthz", Class::Health),
    ("/readyz", Class::Health),
    ("/v1/keys/verify", Class::Verification),
    ("/v1/keys/verify-batch", Class::Verification),
    ("/oauth2/introspect", Class::Verification),
    ("/api/v1/api_keys/verify", Class::Verification),
    ("/v1/keys/find", Class::Read),
    ("/v1/keys/self-revoke", Class::Command(Change::Removal)),
    ("/v1/erasures", Class::Command(Change::Removal)),
];
/// The last words of paths that make the service do something without a command.
const ACTIONS: [&str; 4] = ["/test", "/redeliver", "/rebuild", "/log/verifications"];

impl Class {
    /// Returns the class of an endpoint, by its path in the table of access.
    #[must_use]
    pub(crate) fn of(method: &Method, path: &str) -> Self {
        if path.starts_with("/v1/forward-auth") {
            return Self::Verification;
        }
        if let Some((_, class)) = ODD.iter().find(|row| row.0 == path) {
            return *class;
        }
        if *method == Method::GET || *method == Method::HEAD {
            Self::Read
        } else if ACTIONS.iter().any(|action| path.ends_with(action)) {
            Self::Action
        } else if *method == Method::DELETE || path.ends_with("/revoke") {
            Self::Command(Change::Removal)
        } else {
            Self::Command(Change::Growth)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::access::ENDPOINTS;

    #[test]
    fn every_change_is_a_change() {
        let all = |wanted: Class| -> Vec<String> {
            let rows = ENDPOINTS.iter().map(|row| (row.0, row.1, row.0.parse::<Method>().unwrap()));
            let is_it = |(_, path, method): &(&str, &str, Method)| Class::of(method, path) == wanted;
            rows.filter(is_it).map(|(method, path, _)| format!("{method} {path}")).collect()
        };
        let odd = [all(Class::Health), all(Class::Verification)].concat();
        assert_eq!(odd.len(), 2 + 2 + 1 + 7, "{odd:?}");
        for (method, path, _) in ENDPOINTS {
            let name = format!("{method} {path}");
            let is_read = *method == "GET" || name == "POST /v1/keys/find";
            assert!(odd.contains(&name) || is_read == all(Class::Read).contains(&name), "{name}");
        }
        assert_eq!(all(Class::Action).len(), 5);
        let removals = all(Class::Command(Change::Removal));
        for name in ["POST /v1/keys/{id}/revoke", "DELETE /v1/root-keys/{id}", "POST /v1/erasures"] {
            assert!(removals.iter().any(|it| it == name), "{name}");
        }
        assert!(!removals.iter().any(|name| name.ends_with("/reactivate") || name.ends_with("/rotate")));
    }
}
