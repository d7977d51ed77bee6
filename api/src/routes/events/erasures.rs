//! Erasing the personal text of a user, or of a whole organization (docs/erasure.md).

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use keyledger_engine::domain::erasure::{Erasure, ErasureCommand};
use keyledger_engine::ledger::Command;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::text::UserId;
use keyledger_engine::value::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::code::Code;
use crate::answer::problem::{FieldError, Problem};
use crate::openapi::parameters::IdempotencyKey;
use crate::request::body::{Checks, Field, JsonBody, Reading, Strict, parsed, text};
use crate::request::context::RequestContext;
use crate::request::execution::Outcome;
use crate::service::Service;

/// Returns the endpoint that erases.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(create))
}

/// An erasure. It names the organization, and never the user.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Erasure)]
struct ErasureView {
    /// `era_<ULID>`.
    id: String,
    /// The organization.
    organization_id: String,
    /// Whose text was erased: `user`, or `organization` with all its users.
    #[schema(example = "user")]
    subject: &'static str,
    /// The number of destroyed encryption keys. 0 if there was nothing to erase.
    subject_keys: u64,
    /// When the text was erased.
    #[schema(value_type = String, format = DateTime)]
    erased_at: Timestamp,
    /// The id of the actor that requested it.
    created_by: String,
    /// The number of its events; the `ETag`.
    version: u32,
}

impl ErasureView {
    fn of(erasure: &Erasure) -> Self {
        Self {
            id: erasure.id.to_string(),
            organization_id: erasure.organization_id.to_string(),
            subject: erasure.subject.as_str(),
            subject_keys: erasure.subject_keys,
            erased_at: erasure.erased_at,
            created_by: erasure.created_by.to_string(),
            version: erasure.version.get(),
        }
    }
}

/// What to erase.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = CreateErasure)]
struct CreateBody {
    /// Whose text to erase.
    #[schema(value_type = SubjectBody, required = true)]
    #[serde(default)]
    subject: Field,
}

/// Whose text to erase.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = ErasureSubject)]
struct SubjectBody {
    /// The organization. It may have been deleted.
    #[schema(value_type = String, required = true)]
    #[serde(default)]
    organization_id: Field,
    /// One user of the organization. Default: the organization and all its users.
    #[schema(value_type = Option<String>, max_length = 255)]
    #[serde(default)]
    user_id: Field,
}

fn subject(value: &Value) -> Reading<(OrganizationId, Option<UserId>)> {
    let failed = |errors: Vec<FieldError>| {
        errors.into_iter().map(|error| (error.pointer, error.detail)).collect::<Vec<_>>()
    };
    if !value.is_object() {
        return Err(vec![(String::new(), "must be an object".into())]);
    }
    let Strict { fields: body, unknown } = Strict::<SubjectBody>::deserialize(value).unwrap_or_default();
    let mut checks = Checks::default();
    let organization_id = checks.required("organization_id", &body.organization_id, parsed::<OrganizationId>);
    let user_id = checks.optional("user_id", &body.user_id, text(UserId::new));
    checks.unknown(&unknown);
    match (checks.finish(), organization_id) {
        (Ok(()), Some(organization_id)) => Ok((organization_id, user_id)),
        (Ok(()), None) => Err(Vec::new()),
        (Err(problem), _) => Err(failed(problem.errors)),
    }
}

/// Destroys the encryption keys of the personal text of a user, or of an organization and all its users:
/// names, descriptions, metadata, user ids, notes, and callers' addresses and user agents. API keys keep
/// working. Once this is answered, no endpoint finds the text, and no file of the service has it. This cannot
/// be undone.
#[utoipa::path(post, path = "/v1/erasures", operation_id = "createErasure", tag = "Organizations",
    request_body = CreateBody, params(IdempotencyKey),
    responses((status = 201, body = ErasureView, description = "what was erased")))]
async fn create(request: RequestContext, body: JsonBody<CreateBody>) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let subject = checks.required("subject", &body.subject, subject);
    checks.unknown(&body.unknown);
    checks.finish()?;
    let Some((organization_id, user_id)) = subject else {
        return Err(Problem::of(Code::InvalidRequest));
    };
    if !request.caller.sees(&organization_id) {
        let detail = Problem::of(Code::OrganizationNotFound).detail;
        return Err(Problem::field("/subject/organization_id", detail));
    }
    let command = ErasureCommand::Erase { organization_id, user_id };
    let command = Command::Erasure(request.service.new_id(), command);
    // A separate task: an erasure that has begun must finish even if the client disconnects.
    let erasing = tokio::spawn(async move {
        let executed = request.execute_once("POST /v1/erasures", &body.bytes, command).await;
        let outcome: Outcome<Erasure> = executed.map_err(|problem| match problem.code {
            Code::OrganizationNotFound => Problem::field("/subject/organization_id", problem.detail),
            _ => problem,
        })?;
        request.service.forget_erased().await?;
        Ok::<_, Problem>(outcome)
    });
    let outcome = erasing.await.map_err(|error| Problem::internal(&error))??;
    outcome.reply().status(StatusCode::CREATED).json(&ErasureView::of(&outcome.object))
}
