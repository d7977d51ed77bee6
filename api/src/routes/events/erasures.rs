//! Erasing personal text: of a user of an organization, or of a whole organization (docs/erasure.md).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use keyledger_engine::domain::erasure::ErasureCommand;
use keyledger_engine::ledger::{Aggregate, Command};
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::text::UserId;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Code, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::answer::view::ErasureView;
use crate::auth::caller::Caller;
use crate::request::body::{Checks, Field, Json, Reading, parsed, text};
use crate::request::execution::{execute, outcome};
use crate::service::Service;

/// The call that erases; it needs the permission `admin`.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(create))
}

/// What to erase.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = CreateErasure)]
struct CreateBody {
    /// Whose text to erase.
    #[schema(value_type = SubjectBody, required = true)]
    #[serde(default)]
    subject: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// Whose text to erase.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = ErasureSubject)]
struct SubjectBody {
    /// The organization; it may have been deleted.
    #[schema(value_type = String, required = true)]
    #[serde(default)]
    organization_id: Field,
    /// One user of it; the organization with all its users if left out.
    #[schema(value_type = Option<String>, max_length = 255)]
    #[serde(default)]
    user_id: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

fn subject(value: &Value) -> Reading<(OrganizationId, Option<UserId>)> {
    let failed = |errors: Vec<crate::answer::problem::FieldError>| {
        errors.into_iter().map(|error| (error.pointer, error.detail)).collect::<Vec<_>>()
    };
    if !value.is_object() {
        return Err(vec![(String::new(), "must be an object".into())]);
    }
    let body = SubjectBody::deserialize(value).unwrap_or_default();
    let mut checks = Checks::default();
    let organization_id = checks.required("organization_id", &body.organization_id, parsed::<OrganizationId>);
    let user_id = checks.optional("user_id", &body.user_id, text(UserId::new));
    checks.unknown(&body.unknown);
    match (checks.finish(), organization_id) {
        (Ok(()), Some(organization_id)) => Ok((organization_id, user_id)),
        (Ok(()), None) => Err(Vec::new()),
        (Err(problem), _) => Err(failed(problem.errors)),
    }
}

/// Destroys the keys that the personal text of a user, or of an organization with all its users, is sealed with: names,
/// descriptions, metadata, user ids, notes, and the addresses and user agents of callers. Keys stay what they are. The
/// answer comes when nothing finds the text any more and no file of the service has it. It cannot be undone.
#[utoipa::path(post, path = "/v1/erasures", operation_id = "createErasure", tag = "Organizations", request_body = CreateBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "names the call for 24 hours: repeated, it takes place once")),
    responses(
        (status = 201, body = ErasureView, description = "what was erased"),
        (status = 422, body = ProblemBody, description = "`invalid_request` with every field that fails"),
    ))]
async fn create(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Json { body, bytes }: Json<CreateBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let subject = checks.required("subject", &body.subject, subject);
    checks.unknown(&body.unknown);
    checks.finish()?;
    let Some((organization_id, user_id)) = subject else {
        return Err(Problem::of(Code::InvalidRequest));
    };
    if !caller.sees(&organization_id) {
        return Err(Problem::field(
            "/subject/organization_id",
            Problem::of(Code::OrganizationNotFound).detail,
        ));
    }
    let id = service.new_id();
    let command = Command::Erasure(id, ErasureCommand::Erase { organization_id, user_id });
    // A task of its own: what was begun is finished also when the client goes away.
    let erasing = tokio::spawn(async move {
        let name = ("POST /v1/erasures", bytes.as_ref());
        let committed = execute(&service, &caller, &headers, Some(name), command).await;
        let committed = committed.map_err(|problem| match problem.code {
            Code::OrganizationNotFound => Problem::field("/subject/organization_id", problem.detail),
            _ => problem,
        })?;
        service.forget_erased().await?;
        outcome(committed, |aggregate| match aggregate {
            Aggregate::Erasure(erasure) => {
                let version = erasure.version;
                Some((erasure, version))
            }
            _ => None,
        })
    });
    let outcome = erasing.await.map_err(|error| Problem::internal(&error))??;
    Reply::at(outcome.position)
        .status(StatusCode::CREATED)
        .version(outcome.version)
        .replayed(outcome.replayed)
        .json(&ErasureView::of(&outcome.object))
}
