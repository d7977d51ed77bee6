//! Having the service read its whole log again, and what it found.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use keyledger_engine::value::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Code, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::answer::view::Page;
use crate::auth::caller::Caller;
use crate::jobs::log_verification::{LogVerifications, Outcome, Verification};
use crate::service::Service;

/// The calls about verifications of the log.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(list, start))
}

/// A verification of the log: every event is read again, with its checksum, its place and its hash, and what they add up to
/// is compared with every checkpoint that was signed.
#[derive(Serialize, ToSchema)]
#[schema(as = LogVerification)]
struct LogVerificationView {
    /// How many there were since the start of the service, up to this one.
    number: u64,
    /// `running`; `passed`: all is right; `failed`: something is wrong; `aborted`: it could not be carried out.
    #[schema(example = "passed")]
    status: &'static str,
    /// The position up to which it has read.
    position: u64,
    /// The position up to which it reads.
    head: u64,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// The root of the tree over all events up to `head`, in base64 as in a checkpoint, if all is right.
    root: Option<String>,
    /// How many checkpoints it was compared with, if all is right.
    checkpoints: Option<u64>,
    /// How many events the newest of them is over.
    signed_up_to: Option<u64>,
    /// The first bad position, if something is wrong.
    bad_position: Option<u64>,
    /// What is wrong, or why it could not be carried out.
    reason: Option<String>,
}

impl LogVerificationView {
    fn of(verification: &Verification) -> Self {
        let mut view = Self {
            number: verification.number,
            status: "running",
            position: verification.position.get(),
            head: verification.head.get(),
            started_at: verification.started_at,
            ended_at: None,
            root: None,
            checkpoints: None,
            signed_up_to: None,
            bad_position: None,
            reason: None,
        };
        let Some((ended_at, outcome)) = &verification.ended else { return view };
        view.ended_at = Some(*ended_at);
        match outcome {
            Outcome::Right { root, checkpoints, signed_up_to } => {
                view.status = "passed";
                view.root = Some(STANDARD.encode(root));
                view.checkpoints = Some(*checkpoints);
                view.signed_up_to = *signed_up_to;
            }
            Outcome::Wrong { position, reason } => {
                view.status = "failed";
                view.bad_position = Some(position.get());
                view.reason = Some(reason.clone());
            }
            Outcome::Failed(reason) => {
                view.status = "aborted";
                view.reason = Some(reason.clone());
            }
        }
        view
    }
}

/// Lists the last ten verifications of the log since the start of the service, the latest first.
#[utoipa::path(get, path = "/v1/log/verifications", operation_id = "listLogVerifications", tag = "Log",
    responses((status = 200, body = Page<LogVerificationView>, description = "all of them, on one page")))]
async fn list(State(service): State<Arc<Service>>, _caller: Caller) -> Result<Response, Problem> {
    let kept = service.log_verifications.list();
    let data: Vec<_> = kept.iter().map(LogVerificationView::of).collect();
    let total = data.len() as u64;
    Reply::at(service.ledger.head()).json(&Page { data, next_cursor: None, total, total_capped: false })
}

/// Has the service read its whole log again, beside everything else and without haste. The answer comes when it has begun;
/// the list tells how far it is, and what it found. One runs at a time.
#[utoipa::path(post, path = "/v1/log/verifications", operation_id = "verifyLog", tag = "Log",
    responses(
        (status = 202, body = LogVerificationView, description = "it has begun"),
        (status = 409, body = ProblemBody, description = "`log_verification_running`"),
    ))]
async fn start(State(service): State<Arc<Service>>, caller: Caller) -> Result<Response, Problem> {
    let begun = LogVerifications::start(&service).map_err(|error| Problem::internal(&error))?;
    let begun = begun.ok_or_else(|| Problem::of(Code::LogVerificationRunning))?;
    tracing::info!(actor = %caller.actor.id, "asked for a verification of the log");
    Reply::at(service.ledger.head())
        .status(StatusCode::ACCEPTED)
        .location("/v1/log/verifications")
        .json(&LogVerificationView::of(&begun))
}
