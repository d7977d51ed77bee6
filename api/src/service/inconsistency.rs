//! Whether the log is known to be an older copy or altered. Such a log is not served: a key that it shows as
//! active may have been revoked. The knowledge comes from the signed checkpoints (`service::log_signer`),
//! from reading the log again (`jobs::log_verification`) and from witnesses (`jobs::witness`), and stays
//! until the next start.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::answer::code::Code;
use crate::answer::problem::Problem;

/// What is known to be wrong with the log, if anything, and whether it is served all the same.
pub(crate) struct Inconsistency {
    /// The log's file, for messages.
    file: PathBuf,
    /// The operator asked to serve such a log.
    is_tolerated: bool,
    is_refused: AtomicBool,
    reason: OnceLock<String>,
}

impl Inconsistency {
    /// Nothing is known about the log in `file` yet.
    #[must_use]
    pub(crate) const fn none(file: PathBuf, is_tolerated: bool) -> Self {
        Self { file, is_tolerated, is_refused: AtomicBool::new(false), reason: OnceLock::new() }
    }

    /// Remembers what is wrong and what to do. The first reason is kept.
    pub(crate) fn report(&self, reason: &str) {
        if self.reason.set(format!("{}: {reason}", self.file.display())).is_err() {
            return;
        }
        self.is_refused.store(!self.is_tolerated, Ordering::Release);
        let reason = self.reason().unwrap_or_default();
        if self.is_tolerated {
            tracing::warn!(reason, "the log is inconsistent, and served because of --serve-inconsistent-log");
        } else {
            tracing::error!(
                reason,
                "the log is inconsistent: every request is refused; --serve-inconsistent-log would serve it"
            );
        }
    }

    /// What is wrong with the log and what to do, with its file, if anything is known.
    #[must_use]
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// Whether requests are refused and nothing is appended or delivered.
    #[must_use]
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Acquire)
    }

    /// Passes when the log is served.
    ///
    /// # Errors
    /// `log_inconsistent`. The reason is in `/readyz`: callers need not know the files of the machine.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        if self.is_refused() { Err(Problem::of(Code::LogInconsistent)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_is_kept_and_refuses_unless_tolerated() {
        let log = Inconsistency::none("data/events.redb".into(), false);
        assert!(log.check().is_ok() && log.reason().is_none());
        log.report("an older copy");
        log.report("altered");
        assert_eq!(log.reason(), Some("data/events.redb: an older copy"));
        assert_eq!(log.check().unwrap_err().code, Code::LogInconsistent);
        let log = Inconsistency::none("data/events.redb".into(), true);
        log.report("an older copy");
        assert!(log.check().is_ok() && log.reason().is_some());
    }
}
