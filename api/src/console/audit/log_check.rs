//! Verification of the whole log: starting one, its progress and its result.

use axum::response::Response;
use http::Method;
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::answer::code::Code;
use crate::answer::problem::Problem;

use crate::console::parts::moment::Moment;
use crate::console::parts::number::grouped;
use crate::console::visit::notice::Notice;
use crate::console::visit::submission::Submission;
use crate::console::visit::visitor::Visitor;

const CALL: &str = "/v1/log/verifications";

#[derive(Deserialize)]
struct Verifications {
    data: Vec<Verification>,
}

#[derive(Deserialize)]
struct Verification {
    status: String,
    position: u64,
    head: u64,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    root: Option<String>,
    checkpoints: Option<u64>,
    signed_up_to: Option<u64>,
    bad_position: Option<u64>,
    reason: Option<String>,
}

/// The latest verification, and whether the visitor may start another.
pub(crate) struct LogCheck {
    /// Whether the visitor may start one now.
    pub may_start: bool,
    /// The state of the latest one.
    pub state: CheckState,
}

/// The state of a verification.
#[derive(Debug)]
pub(crate) enum CheckState {
    /// None was started since the service started.
    None,
    Running {
        /// The number of events read so far.
        position: u64,
        /// The number of events to read.
        head: u64,
        /// The progress in words.
        words: String,
    },
    /// The whole log is valid.
    Passed {
        at: Moment,
        /// The scope of the verification, in words.
        words: String,
        /// The root hash over all events.
        root: String,
    },
    /// The log is invalid.
    Failed {
        at: Moment,
        /// The first invalid position and the reason.
        words: String,
    },
    /// The log is valid, but a projection differs from it.
    Different {
        at: Moment,
        /// The file, what differs, and what to do.
        words: String,
    },
    /// The verification could not finish.
    Aborted { at: Moment, words: String },
}

impl LogCheck {
    /// Reads the latest verification.
    ///
    /// # Errors
    /// The problem that the API returns.
    pub(crate) async fn read(visitor: &Visitor) -> Result<Self, Problem> {
        let list: Verifications = visitor.read(CALL).await?;
        let state = list.data.into_iter().next().map_or(CheckState::None, |it| it.state(visitor.now));
        let is_running = matches!(state, CheckState::Running { .. });
        Ok(Self { may_start: !is_running && visitor.may(&Method::POST, CALL), state })
    }
}

impl Verification {
    fn state(self, now: Timestamp) -> CheckState {
        let at = Moment::new(self.ended_at.unwrap_or(self.started_at), now);
        match (self.status.as_str(), self.reason) {
            ("running", _) => {
                let words = format!("{} of {} events", grouped(self.position), grouped(self.head));
                CheckState::Running { position: self.position, head: self.head.max(1), words }
            }
            ("passed", _) => {
                let checkpoints = match (self.checkpoints, self.signed_up_to) {
                    (Some(1), Some(size)) => {
                        format!(" and matches the checkpoint over {} events", grouped(size))
                    }
                    (Some(count), Some(size)) => {
                        format!(
                            " and matches {} checkpoints, the last over {} events",
                            grouped(count),
                            grouped(size)
                        )
                    }
                    _ => "; no checkpoint was signed to compare it with".into(),
                };
                let words = format!(
                    "Every record, checksum and hash of {} events is valid{checkpoints}.",
                    grouped(self.head)
                );
                CheckState::Passed { at, words, root: self.root.unwrap_or_default() }
            }
            ("failed", reason) => {
                let reason = reason.unwrap_or_default();
                match self.bad_position {
                    Some(position) => {
                        let position = grouped(position);
                        CheckState::Failed {
                            at,
                            words: format!("The first invalid position is {position}: {reason}."),
                        }
                    }
                    None => CheckState::Different { at, words: format!("{reason}.") },
                }
            }
            (_, reason) => CheckState::Aborted { at, words: reason.unwrap_or_default() },
        }
    }
}

/// Starts a verification. If one is already running, the page says so.
pub(crate) async fn start(submission: Submission) -> Result<Response, Problem> {
    let visitor = &submission.visitor;
    let notice = match visitor.call(Method::POST, CALL).send::<Value>().await {
        Ok(answer) => Notice::of(answer.position, "Verification started."),
        Err(problem) if problem.code == Code::LogVerificationRunning => {
            Notice::of(None, "Verification is already running.")
        }
        Err(problem) => return Err(problem),
    };
    Ok(visitor.go_to("/console/audit", &notice))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn results_read_as_sentences() {
        let now: Timestamp = "2026-11-12T15:00:00Z".parse().unwrap();
        let state = |more: Value| {
            let mut verification = json!({
                "position": 1_000, "head": 2_000, "started_at": "2026-11-12T14:00:00Z", "ended_at": null,
                "root": null,
                "checkpoints": null, "signed_up_to": null, "bad_position": null, "reason": null,
            });
            verification.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value::<Verification>(verification).unwrap().state(now)
        };
        let running = state(json!({ "status": "running" }));
        assert!(matches!(running, CheckState::Running { words, .. } if words == "1,000 of 2,000 events"));
        let passed = json!({ "status": "passed", "checkpoints": 3, "signed_up_to": 1_999, "root": "x",
            "reason": null });
        let CheckState::Passed { words, .. } = state(passed) else { panic!() };
        assert!(
            words.ends_with("2,000 events is valid and matches 3 checkpoints, the last over 1,999 events."),
            "{words}"
        );
        let failed = json!({ "status": "failed", "bad_position": 7, "reason": "wrong checksum" });
        let CheckState::Failed { words, .. } = state(failed) else { panic!() };
        assert_eq!(words, "The first invalid position is 7: wrong checksum.");
        let different = state(json!({ "status": "failed", "reason": "key-list.redb: a row" }));
        assert!(matches!(different, CheckState::Different { words, .. } if words == "key-list.redb: a row."));
        assert!(matches!(state(json!({ "status": "aborted", "reason": "no" })), CheckState::Aborted { .. }));
    }
}
