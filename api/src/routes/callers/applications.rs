//! Applications: OAuth 2.0 clients that call by themselves, machine to machine.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use keyledger_engine::domain::application::{
    Application, ApplicationCommand, ApplicationCreated, ApplicationSecretRotated,
};
use keyledger_engine::ledger::{Aggregate, Command, Committed};
use keyledger_engine::value::id::{ApplicationId, OrganizationId};
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::text::Name;
use keyledger_engine::value::token::{SecretKind, Token};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Code, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::answer::view::{ApplicationView, Page};
use crate::auth::caller::Caller;
use crate::request::body::{Checks, Field, Json, NoFields, Reading, parsed, set, text};
use crate::request::execution::{Outcome, execute, outcome};
use crate::request::paging::{BoundPageQuery, BoundPaging};
use crate::request::precondition::{check_version, reach_min_position};
use crate::request::query::PathId;
use crate::service::Service;

/// The calls about applications; all of them need the permission `applications:write`.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read, edit, delete))
        .routes(routes!(rotate_secret))
}

/// A new application.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = CreateApplication)]
struct CreateBody {
    /// What people call it.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    name: Field,
    /// What it may do, in the words of a root key's permissions. Nobody can give what they lack.
    #[schema(value_type = Vec<String>, required = true, example = json!(["keys:verify"]))]
    #[serde(default)]
    permissions: Field,
    /// The only organization that it is to see.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    organization_id: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// An application with its secret.
#[derive(Serialize, ToSchema)]
struct ApplicationWithSecret<'a> {
    /// The application.
    application: ApplicationView,
    /// Its OAuth 2.0 client identifier: its id.
    client_id: String,
    /// Its secret, this once; left out when the call repeats an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<&'a str>,
}

fn permissions(value: &Value) -> Reading<Vec<Permission>> {
    let read = set(Permission::names().count(), str::parse::<Permission>)(value)?;
    if read.is_empty() {
        return Err(vec![(String::new(), "must name at least one permission".into())]);
    }
    Ok(read)
}

/// Creates an application. The answer is the only one that shows its secret.
#[utoipa::path(post, path = "/v1/applications", operation_id = "createApplication", tag = "Applications", request_body = CreateBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "names the call for 24 hours: repeated, it takes place once")),
    responses(
        (status = 201, body = ApplicationWithSecret, description = "the application and its secret"),
        (status = 403, body = ProblemBody, description = "`forbidden`: also for a permission that the caller lacks"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`"),
        (status = 410, body = ProblemBody, description = "`organization_deleted`"),
        (status = 422, body = ProblemBody, description = "`invalid_request` with every field that fails"),
    ))]
async fn create(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Json { body, bytes }: Json<CreateBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let name = checks.optional("name", &body.name, text(Name::new));
    let permissions = checks.required("permissions", &body.permissions, permissions);
    let organization_id = checks.optional("organization_id", &body.organization_id, parsed::<OrganizationId>);
    if let Some(id) = &organization_id
        && caller.bound_to().is_none()
        && service.index.organization(id).is_none_or(|it| it.deleted_at.is_some())
    {
        checks.fail("/organization_id", "no organization has this id, or it was deleted");
    }
    checks.unknown(&body.unknown);
    checks.finish()?;
    let permissions = permissions.ok_or_else(|| Problem::of(Code::InvalidRequest))?;
    caller.require_all(&permissions)?;
    // Who is bound to an organization can only bind others to the same one.
    let organization_id = match (caller.bound_to(), organization_id) {
        (Some(bound), Some(id)) if *bound != id => return Err(Problem::of(Code::OrganizationNotFound)),
        (Some(bound), _) => Some(bound.clone()),
        (None, id) => id,
    };
    let id = service.new_id();
    let secret = new_secret(&service)?;
    let facts = ApplicationCreated { digest: secret.digest(), hint: secret.hint(), permissions };
    let command = Command::Application(id, ApplicationCommand::Create { organization_id, name, facts });
    let name = ("POST /v1/applications", bytes.as_ref());
    let outcome = application_outcome(execute(&service, &caller, &headers, Some(name), command).await?)?;
    with_secret(
        Reply::at(outcome.position)
            .status(StatusCode::CREATED)
            .location(&format!("/v1/applications/{}", outcome.object.id)),
        &outcome,
        &secret,
    )
}

fn new_secret(service: &Service) -> Result<Token, Problem> {
    Token::generate_secret(SecretKind::ClientSecret, &mut service.randomness())
        .map_err(|error| Problem::internal(&error))
}

fn with_secret(reply: Reply, outcome: &Outcome<Application>, secret: &Token) -> Result<Response, Problem> {
    let shown = ApplicationWithSecret {
        application: ApplicationView::of(&outcome.object),
        client_id: outcome.object.id.to_string(),
        client_secret: (!outcome.replayed).then(|| secret.expose()),
    };
    reply.version(outcome.version).secret().replayed(outcome.replayed).json(&shown)
}

fn application_outcome(committed: Committed) -> Result<Outcome<Application>, Problem> {
    outcome(committed, |aggregate| match aggregate {
        Aggregate::Application(application) => {
            let version = application.version;
            Some((application, version))
        }
        _ => None,
    })
}

/// An application that the caller may see.
fn visible(service: &Service, caller: &Caller, id: &str) -> Result<Arc<Application>, Problem> {
    let application = id.parse::<ApplicationId>().ok().and_then(|id| service.index.application(id));
    application
        .filter(|it| caller.sees_owned_by(it.organization_id.as_ref()))
        .ok_or_else(|| Problem::of(Code::ApplicationNotFound))
}

/// Lists applications in the order of their creation, deleted ones too.
#[utoipa::path(get, path = "/v1/applications", operation_id = "listApplications", tag = "Applications", params(BoundPageQuery),
    responses((status = 200, body = Page<ApplicationView>, description = "a page of applications")))]
async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    bound: BoundPaging,
) -> Result<Response, Problem> {
    reach_min_position(&headers, &service.index.watch()).await?;
    let position = service.index.position();
    let after = bound.paging.after::<ApplicationId>()?;
    let mut all = service.index.applications(None, usize::MAX);
    all.retain(|it| {
        caller.sees_owned_by(it.organization_id.as_ref()) && bound.has(it.organization_id.as_ref())
    });
    let page = bound.paging.page_of_all(all, after.as_ref(), |it| it.id, |it| ApplicationView::of(it));
    Reply::at(position).json(&page)
}

/// Shows an application, also a deleted one; never its secret.
#[utoipa::path(get, path = "/v1/applications/{id}", operation_id = "getApplication", tag = "Applications", params(("id" = String, Path, description = "its id"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 200, body = ApplicationView, description = "the application"),
        (status = 404, body = ProblemBody, description = "`application_not_found`"),
    ))]
async fn read(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    reach_min_position(&headers, &service.index.watch()).await?;
    let position = service.index.position();
    let application = visible(&service, &caller, &id)?;
    check_version(&headers, application.version)?;
    Reply::at(position).version(application.version).json(&ApplicationView::of(&application))
}

/// Changes to an application; what is absent stays.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = EditApplication)]
struct EditBody {
    /// What people call it; `null` clears.
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    name: Field,
    /// All that it may do from now on; its living access tokens may do no more than that either.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    permissions: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// Renames an application, or gives it other permissions.
#[utoipa::path(patch, path = "/v1/applications/{id}", operation_id = "editApplication", tag = "Applications", request_body = EditBody,
    params(("id" = String, Path, description = "its id"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 200, body = ApplicationView, description = "the application after it"),
        (status = 410, body = ProblemBody, description = "`application_deleted`"),
        (status = 412, body = ProblemBody, description = "`version_conflict`"),
    ))]
async fn edit(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
    Json { body, .. }: Json<EditBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let name = checks.change("name", &body.name, text(Name::new));
    let permissions = checks.optional("permissions", &body.permissions, permissions);
    checks.unknown(&body.unknown);
    checks.finish()?;
    let id = visible(&service, &caller, &id)?.id;
    caller.require_all(permissions.as_deref().unwrap_or_default())?;
    let command = Command::Application(id, ApplicationCommand::Edit { name, permissions });
    let outcome = application_outcome(execute(&service, &caller, &headers, None, command).await?)?;
    Reply::at(outcome.position).version(outcome.version).json(&ApplicationView::of(&outcome.object))
}

/// Gives an application a new secret. From the answer on, neither the old secret nor any access token that was got with it
/// is good. The caller must be allowed all that the application is.
#[utoipa::path(post, path = "/v1/applications/{id}/rotate-secret", operation_id = "rotateApplicationSecret", tag = "Applications", request_body = Option<NoFields>,
    params(("id" = String, Path, description = "its id"), ("Idempotency-Key" = Option<String>, Header, description = "names the call for 24 hours: repeated, it takes place once"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 200, body = ApplicationWithSecret, description = "the application and its new secret"),
        (status = 410, body = ProblemBody, description = "`application_deleted`"),
    ))]
async fn rotate_secret(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
    Json { body, bytes }: Json<NoFields>,
) -> Result<Response, Problem> {
    body.check()?;
    let application = visible(&service, &caller, &id)?;
    // Whoever gets the secret can do what the application can.
    caller.require_all(&application.permissions)?;
    let secret = new_secret(&service)?;
    let rotated = ApplicationSecretRotated { digest: secret.digest(), hint: secret.hint() };
    let command = Command::Application(application.id, ApplicationCommand::RotateSecret(rotated));
    let name = format!("POST /v1/applications/{id}/rotate-secret");
    let committed = execute(&service, &caller, &headers, Some((&name, &bytes)), command).await?;
    let outcome = application_outcome(committed)?;
    with_secret(Reply::at(outcome.position), &outcome, &secret)
}

/// Deletes an application, for good: its secret and its access tokens stop at once.
#[utoipa::path(delete, path = "/v1/applications/{id}", operation_id = "deleteApplication", tag = "Applications",
    params(("id" = String, Path, description = "its id"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 204, description = "it is deleted"),
        (status = 410, body = ProblemBody, description = "`application_deleted`: it was before"),
    ))]
async fn delete(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let id = visible(&service, &caller, &id)?.id;
    let command = Command::Application(id, ApplicationCommand::Delete);
    let committed = execute(&service, &caller, &headers, None, command).await?;
    Ok(Reply::at(committed.position).empty())
}
