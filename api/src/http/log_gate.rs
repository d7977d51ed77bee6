//! What is answered while the log is known to be inconsistent: the state of the service, and what outsiders
//! need to examine the log.

use crate::answer::problem::Problem;
use crate::service::inconsistency::Inconsistency;

/// Paths that are answered whatever the log's state. Hashes and checkpoints let anyone compare the log with
/// what they have seen; entries need a credential, and such a log cannot vouch for one. The page of a problem
/// is fixed text.
const OPEN: [&str; 5] = ["/healthz", "/readyz", "/metrics", "/log/checkpoint", "/log/key"];
const OPEN_BELOW: [&str; 2] = ["/log/tile/", "/problems/"];
const ENTRIES: &str = "/log/tile/entries/";
/// Answers gateways in their own form, so it refuses by itself.
const FORWARD_AUTH: &str = "/v1/forward-auth";

/// Whether a path is answered whatever the log's state.
#[must_use]
pub(crate) fn is_open(path: &str) -> bool {
    OPEN.contains(&path)
        || OPEN_BELOW.iter().any(|prefix| path.starts_with(prefix)) && !path.starts_with(ENTRIES)
}

/// Passes a request for `path`, unless the log is inconsistent and not served.
///
/// # Errors
/// `log_inconsistent`.
pub(crate) fn admit(log: &Inconsistency, path: &str) -> Result<(), Problem> {
    log.check().or_else(|problem| {
        let judges_itself =
            path.strip_prefix(FORWARD_AUTH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_open(path) || judges_itself { Ok(()) } else { Err(problem) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_log_answers_only_what_helps_to_examine_it() {
        let log = Inconsistency::none("events.redb".into(), false);
        assert!(admit(&log, "/v1/keys").is_ok());
        log.report("an older copy");
        for path in
            ["/readyz", "/log/key", "/log/tile/0/000", "/problems/log_inconsistent", "/v1/forward-auth/x"]
        {
            assert!(admit(&log, path).is_ok(), "{path}");
        }
        for path in [
            "/",
            "/v1/keys",
            "/console",
            "/log/tile/entries/000",
            "/readyz/x",
            "/v1/forward-authx",
            "/openapi.json",
        ] {
            assert!(admit(&log, path).is_err(), "{path}");
        }
    }
}
