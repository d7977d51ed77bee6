//! Verifications of the whole log by the running service.

use std::sync::Arc;

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use keyledger_engine::value::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::code::Code;
use crate::answer::page::Page;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::evidence::security_log::Action;
use crate::jobs::log_verification::{LogVerifications, Outcome, Verification};
use crate::request::context::RequestContext;
use crate::service::Service;

/// Returns the endpoints about verifications of the log.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(list, start))
}

/// A verification of the log. It reads every event with its checksum, position and hash, and compares the
/// resulting tree with every signed checkpoint. Then it compares the verification index, the key list and the
/// audit trail with a replay of the log. A service that has started from their files begins with one.
#[derive(Serialize, ToSchema)]
#[schema(as = LogVerification)]
struct LogVerificationView {
    /// Its number, counted from the start of the service.
    number: u64,
    /// `running`; `passed`: the log is intact, and everything that answers are made from equals it; `failed`:
    /// the log is damaged, or a projection differs from it; `aborted`: the verification could not finish.
    #[schema(example = "passed")]
    status: &'static str,
    /// What it is reading or comparing, while it runs: `log`, `verification-index`, `key-list` or
    /// `audit-trail`.
    step: Option<&'static str>,
    /// The position up to which it has read the log.
    position: u64,
    /// The position up to which it reads.
    head: u64,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// The root of the tree over all events up to `head`, in base64 as in a checkpoint. Only if it passed.
    root: Option<String>,
    /// The number of checkpoints it was compared with. Only if it passed.
    checkpoints: Option<u64>,
    /// The number of events that the newest of them covers.
    signed_up_to: Option<u64>,
    /// The first damaged position. Only if the log is damaged.
    bad_position: Option<u64>,
    /// The projection that differs from the log. Only if one does.
    different_projection: Option<&'static str>,
    /// What is damaged or differs, or why it could not finish.
    reason: Option<String>,
}

impl LogVerificationView {
    fn of(verification: &Verification) -> Self {
        let mut view = Self {
            number: verification.number,
            status: "running",
            step: verification.ended.is_none().then_some(verification.step),
            position: verification.position.get(),
            head: verification.head.get(),
            started_at: verification.started_at,
            ended_at: None,
            root: None,
            checkpoints: None,
            signed_up_to: None,
            bad_position: None,
            different_projection: None,
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
            Outcome::Different { projection, reason } => {
                view.status = "failed";
                view.different_projection = Some(projection);
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

/// Lists the last ten verifications of the log since the service started, newest first.
#[utoipa::path(get, path = "/v1/log/verifications", operation_id = "listLogVerifications", tag = "Log",
    responses((status = 200, body = Page<LogVerificationView>, description = "all of them on one page")))]
async fn list(request: RequestContext) -> Result<Response, Problem> {
    let kept = request.service.log_verifications.list();
    let page = Page::whole(kept.iter().map(LogVerificationView::of).collect());
    Reply::at(request.service.ledger.head()).json(&page)
}

/// Starts a verification of the whole log at low priority. The list shows the progress and the result. One
/// verification runs at a time.
#[utoipa::path(post, path = "/v1/log/verifications", operation_id = "verifyLog", tag = "Log",
    responses(
        (status = 202, body = LogVerificationView, description = "the verification has started"),
        (status = 409, body = ProblemBody, description = "`log_verification_running`"),
    ))]
async fn start(request: RequestContext) -> Result<Response, Problem> {
    let begun = LogVerifications::start(&request.service).map_err(|error| Problem::internal(&error))?;
    let begun = begun.ok_or_else(|| Problem::of(Code::LogVerificationRunning))?;
    let (service, endpoint) = (&request.service, (&Method::POST, "/v1/log/verifications"));
    service.security_log.done(&request.caller, endpoint, Action::VerifyLog, service.now());
    tracing::info!(actor = %request.caller.actor.id, "a caller requested a verification of the log");
    Reply::at(request.service.ledger.head())
        .status(StatusCode::ACCEPTED)
        .location("/v1/log/verifications")
        .json(&LogVerificationView::of(&begun))
}
