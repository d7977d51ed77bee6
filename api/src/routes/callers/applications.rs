//! Applications: OAuth 2.0 clients of machine-to-machine callers.

use std::sync::Arc;

use axum::response::Response;
use keyledger_engine::domain::application::{
    Application, ApplicationCommand, ApplicationCreated, ApplicationSecretRotated,
};
use keyledger_engine::ledger::Command;
use keyledger_engine::value::id::ApplicationId;
use keyledger_engine::value::text::Name;
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{SecretKind, Token};
use keyledger_projections::beside_the_log::last_use::UsedCaller;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{organization, permissions};
use crate::answer::code::Code;
use crate::answer::page::Page;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::auth::grant::Grant;
use crate::openapi::parameters::{IdempotencyKey, IfMatch, ObjectId};
use crate::request::body::{Checks, Field, Json, JsonBody, NoFields, text};
use crate::request::context::RequestContext;
use crate::request::execution::Outcome;
use crate::request::paging::BoundPaging;
use crate::request::query::{PathId, Query};
use crate::service::Service;

/// Returns the endpoints about applications.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read, edit, delete))
        .routes(routes!(rotate_secret))
}

/// An application.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Application)]
struct ApplicationView {
    /// `app_<ULID>`. It is also the OAuth 2.0 client identifier.
    id: String,
    /// The organization it is bound to, if any.
    organization_id: Option<String>,
    /// The display name.
    name: Option<String>,
    /// The permissions it has.
    permissions: Vec<&'static str>,
    /// `active` or `deleted`.
    #[schema(example = "active")]
    status: &'static str,
    /// The first characters of its secret.
    #[schema(example = "klsecret_ab12")]
    start: String,
    /// The last four characters of its secret.
    last_four: String,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The id of the actor that created it.
    created_by: String,
    /// When it was deleted.
    #[schema(value_type = Option<String>, format = DateTime)]
    deleted_at: Option<Timestamp>,
    /// When it was last used, to the minute. `null` if never.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    /// The address that it was last used from.
    last_used_ip: Option<String>,
    /// The number of its events; the `ETag`.
    version: u32,
}

impl ApplicationView {
    fn of(service: &Service, application: &Application) -> Self {
        let last = service.last_uses.of_caller(UsedCaller::Application(application.id));
        Self {
            id: application.id.to_string(),
            organization_id: application.organization_id.as_ref().map(ToString::to_string),
            name: application.name.as_ref().map(|name| name.as_str().into()),
            permissions: application.permissions.iter().map(|permission| permission.as_str()).collect(),
            status: if application.deleted_at.is_some() { "deleted" } else { "active" },
            start: application.hint.start.to_string(),
            last_four: application.hint.last_four.to_string(),
            created_at: application.created_at,
            created_by: application.created_by.to_string(),
            deleted_at: application.deleted_at,
            last_used_at: last.map(|last| last.at),
            last_used_ip: last.and_then(|last| last.ip).map(|ip| ip.to_string()),
            version: application.version.get(),
        }
    }
}

/// A new application.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = CreateApplication)]
struct CreateBody {
    /// The display name.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    name: Field,
    /// Its permissions, with the names of a root key's permissions. A caller can grant only permissions that
    /// it has.
    #[schema(value_type = Vec<String>, required = true, example = json!(["keys:verify"]))]
    #[serde(default)]
    permissions: Field,
    /// The only organization that it may see.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    organization_id: Field,
}

/// An application with its secret.
#[derive(Serialize, ToSchema)]
struct ApplicationWithSecret<'a> {
    /// The application.
    application: ApplicationView,
    /// Its OAuth 2.0 client identifier, equal to its id.
    client_id: String,
    /// Its secret. It is shown only once, and is absent when the request repeats an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<&'a str>,
}

/// Creates an application. Only this answer shows its secret.
#[utoipa::path(post, path = "/v1/applications", operation_id = "createApplication", tag = "Applications",
    request_body = CreateBody, params(IdempotencyKey),
    responses(
        (status = 201, body = ApplicationWithSecret, description = "the application and its secret"),
        (status = 403, body = ProblemBody,
            description = "`forbidden`, also for a permission that the caller lacks"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`"),
        (status = 410, body = ProblemBody, description = "`organization_deleted`"),
    ))]
async fn create(request: RequestContext, body: JsonBody<CreateBody>) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let name = checks.optional("name", &body.name, text(Name::new));
    let permissions = checks.required("permissions", &body.permissions, permissions);
    let organization_id = organization(&request, &mut checks, &body.organization_id);
    checks.unknown(&body.unknown);
    checks.finish()?;
    let permissions = permissions.ok_or_else(|| Problem::of(Code::InvalidRequest))?;
    let organization_id = request.owning_organization(organization_id)?;
    request.caller.require_all_of(Grant::new(&permissions, organization_id.as_ref()))?;
    let secret = new_secret(&request.service)?;
    let facts = ApplicationCreated { digest: secret.digest(), hint: secret.hint(), permissions };
    let command = ApplicationCommand::Create { organization_id, name, facts };
    let command = Command::Application(request.service.new_id(), command);
    let outcome: Outcome<Application> =
        request.execute_once("POST /v1/applications", &body.bytes, command).await?;
    with_secret(
        &request.service,
        outcome.created(&format!("/v1/applications/{}", outcome.object.id)),
        &outcome,
        &secret,
    )
}

fn new_secret(service: &Service) -> Result<Token, Problem> {
    Token::generate_secret(SecretKind::ClientSecret, &mut service.randomness())
        .map_err(|error| Problem::internal(&error))
}

fn with_secret(
    service: &Service,
    reply: Reply,
    outcome: &Outcome<Application>,
    secret: &Token,
) -> Result<Response, Problem> {
    let shown = ApplicationWithSecret {
        application: ApplicationView::of(service, &outcome.object),
        client_id: outcome.object.id.to_string(),
        client_secret: (!outcome.replayed).then(|| secret.expose()),
    };
    reply.secret().json(&shown)
}

/// Returns an application that the caller may see.
fn visible(request: &RequestContext, id: &str) -> Result<Arc<Application>, Problem> {
    let id = id.parse::<ApplicationId>().ok();
    request.visible(id.and_then(|id| request.service.index.application(id)), Code::ApplicationNotFound)
}

/// Lists applications in the order of their creation, including deleted ones.
#[utoipa::path(get, path = "/v1/applications", operation_id = "listApplications", tag = "Applications",
    params(BoundPaging),
    responses((status = 200, body = Page<ApplicationView>, description = "a page of applications")))]
async fn list(request: RequestContext, Query(bound): Query<BoundPaging>) -> Result<Response, Problem> {
    let position = request.index_position();
    let all = request.service.index.applications(None, usize::MAX);
    Reply::at(position)
        .json(&bound.page_of_visible(&request.caller, all, |it| ApplicationView::of(&request.service, it))?)
}

/// Returns an application, even a deleted one. The answer never has its secret.
#[utoipa::path(get, path = "/v1/applications/{id}", operation_id = "getApplication", tag = "Applications",
    params(ObjectId, IfMatch),
    responses(
        (status = 200, body = ApplicationView, description = "the application"),
        (status = 404, body = ProblemBody, description = "`application_not_found`"),
    ))]
async fn read(request: RequestContext, id: PathId) -> Result<Response, Problem> {
    let position = request.index_position();
    let application = visible(&request, &id)?;
    request.show(position, application.version, &ApplicationView::of(&request.service, &application))
}

/// Changes to an application. An absent field keeps its value.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = EditApplication)]
struct EditBody {
    /// The display name. `null` clears it.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    name: Field,
    /// All permissions that it has from now on. They also limit its current access tokens.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    permissions: Field,
}

/// Renames an application, or replaces its permissions. The caller must have every permission that the
/// application has or gets.
#[utoipa::path(patch, path = "/v1/applications/{id}", operation_id = "editApplication", tag = "Applications",
    request_body = EditBody, params(ObjectId, IfMatch),
    responses(
        (status = 200, body = ApplicationView, description = "the changed application"),
        (status = 410, body = ProblemBody, description = "`application_deleted`"),
    ))]
async fn edit(request: RequestContext, id: PathId, body: JsonBody<EditBody>) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let name = checks.change("name", &body.name, text(Name::new));
    let permissions = checks.optional("permissions", &body.permissions, permissions);
    checks.unknown(&body.unknown);
    checks.finish()?;
    let application = visible(&request, &id)?;
    let granted = permissions.as_deref().unwrap_or_default();
    for grant in
        [Grant::of_application(&application), Grant::new(granted, application.organization_id.as_ref())]
    {
        request.caller.require_all_of(grant)?;
    }
    let command = Command::Application(application.id, ApplicationCommand::Edit { name, permissions });
    let outcome: Outcome<Application> = request.execute(command).await?;
    outcome.reply().json(&ApplicationView::of(&request.service, &outcome.object))
}

/// Replaces an application's secret. Once this is answered, the old secret and every access token obtained
/// with it are invalid. The caller must have every permission of the application.
#[utoipa::path(post, path = "/v1/applications/{id}/rotate-secret", operation_id = "rotateApplicationSecret",
    tag = "Applications", request_body = Option<NoFields>, params(ObjectId, IdempotencyKey, IfMatch),
    responses(
        (status = 200, body = ApplicationWithSecret, description = "the application and its new secret"),
        (status = 410, body = ProblemBody, description = "`application_deleted`"),
    ))]
async fn rotate_secret(
    request: RequestContext,
    id: PathId,
    Json { body, bytes }: Json<NoFields>,
) -> Result<Response, Problem> {
    body.check()?;
    let application = visible(&request, &id)?;
    // The new secret lets its holder do everything that the application may do.
    request.caller.require_all_of(Grant::of_application(&application))?;
    let secret = new_secret(&request.service)?;
    let rotated = ApplicationSecretRotated { digest: secret.digest(), hint: secret.hint() };
    let command = Command::Application(application.id, ApplicationCommand::RotateSecret(rotated));
    let endpoint = format!("POST /v1/applications/{id}/rotate-secret");
    let outcome = request.execute_once(&endpoint, &bytes, command).await?;
    with_secret(&request.service, outcome.reply(), &outcome, &secret)
}

/// Deletes an application. This is final: its secret, its access tokens and the portal sessions that it
/// created are invalid at once. The caller must have every permission of the application.
#[utoipa::path(delete, path = "/v1/applications/{id}", operation_id = "deleteApplication",
    tag = "Applications", params(ObjectId, IfMatch),
    responses(
        (status = 204, description = "the application is deleted"),
        (status = 410, body = ProblemBody, description = "`application_deleted`: it was already deleted"),
    ))]
async fn delete(request: RequestContext, id: PathId) -> Result<Response, Problem> {
    let application = visible(&request, &id)?;
    request.caller.require_all_of(Grant::of_application(&application))?;
    let command = Command::Application(application.id, ApplicationCommand::Delete);
    request.execute_without_answer(command).await
}
