//! Requests that do not get the answer that they ask for.

use std::time::Instant;

use keyledger_engine::value::time::Timestamp;

use super::head::Head;
use crate::answer::problem::Problem;
use crate::http::request_id::RequestId;

/// Why a request is not answered as it asks.
pub(super) enum Unanswered {
    /// It exceeds a limit.
    Refused(Box<Refusal>),
    /// It is not in plain form, or must be refused for another reason.
    LeftToHyper,
}

pub(super) use Unanswered::LeftToHyper;

/// A request that exceeds a limit.
pub(super) struct Refusal {
    pub(super) problem: Problem,
    pub(super) path: &'static str,
    pub(super) request_id: RequestId,
    pub(super) started: Instant,
}

/// Refuses a request to an endpoint.
pub(super) fn refused(problem: Problem, path: &'static str, head: &Head<'_>, now: Timestamp) -> Unanswered {
    let request_id = head.request_id(now);
    Unanswered::Refused(Box::new(Refusal { problem, path, request_id, started: Instant::now() }))
}
