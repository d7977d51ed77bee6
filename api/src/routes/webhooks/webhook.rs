//! Webhooks: the receivers to which events are pushed, and the secrets that sign the messages.

use std::sync::Arc;

use axum::response::Response;
use keyledger_engine::domain::webhook::{
    MessageType, Webhook, WebhookCommand, WebhookRegistered, WebhookUrl,
};
use keyledger_engine::ledger::Command;
use keyledger_engine::value::id::{OrganizationId, WebhookId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::view::WebhookView;
use crate::answer::code::Code;
use crate::answer::page::Page;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::auth::grant::Grant;
use crate::jobs::webhooks::WEBHOOKS_MAX;
use crate::openapi::parameters::{IdempotencyKey, IfMatch, ObjectId};
use crate::request::body::{Checks, Field, JsonBody, Reading, boolean, number, parsed, set};
use crate::request::context::RequestContext;
use crate::request::execution::Outcome;
use crate::request::paging::BoundPaging;
use crate::request::query::{PathId, Query};
use crate::service::Service;

/// The longest time during which the previous secret also signs: a week.
const OVERLAP_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;
/// The default for that time: a day.
const OVERLAP_SECONDS_DEFAULT: u64 = 24 * 60 * 60;

/// Returns the endpoints about webhooks.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read, edit, delete))
        .routes(routes!(rotate_secret))
}

/// A new webhook.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = CreateWebhook)]
struct CreateBody {
    /// The address that receives the messages: an `https://` address on the internet.
    #[schema(value_type = String, required = true, max_length = 2048, example = "\
        https://example.com/keyledger")]
    #[serde(default)]
    url: Field,
    /// The types of events it receives, and `KeyExpiringSoon`. Default, or if empty: all types.
    #[schema(value_type = Option<Vec<String>>, example = json!(["KeyRevoked", "KeyExpiringSoon"]))]
    #[serde(default)]
    event_types: Field,
    /// The organization whose events it receives. Default: the organization that the caller is bound to, or
    /// all events.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    organization_id: Field,
}

/// A webhook with its secret.
#[derive(Serialize, ToSchema)]
struct WebhookWithSecret<'a> {
    /// The webhook.
    webhook: WebhookView,
    /// The secret that signs its messages: `whsec_` and base64. It is shown only once, and is absent when the
    /// request repeats an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

fn url(service: &Service) -> impl FnOnce(&Value) -> Reading<WebhookUrl> + '_ {
    move |value| {
        let url: WebhookUrl = parsed(value)?;
        match service.webhooks.guard.check(&url) {
            Ok(_) => Ok(url),
            Err(detail) => Err(vec![(String::new(), detail.into())]),
        }
    }
}

fn event_types(value: &Value) -> Reading<Vec<MessageType>> {
    set(MessageType::names().count(), str::parse::<MessageType>)(value)
}

/// Registers a webhook. It receives the events that follow. Only this answer shows its secret.
#[utoipa::path(post, path = "/v1/webhooks", operation_id = "createWebhook", tag = "Webhooks",
    request_body = CreateBody, params(IdempotencyKey),
    responses(
        (status = 201, body = WebhookWithSecret, description = "the webhook and its secret"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`"),
        (status = 409, body = ProblemBody, description = "`too_many_webhooks`"),
        (status = 410, body = ProblemBody, description = "`organization_deleted`"),
    ))]
async fn create(request: RequestContext, body: JsonBody<CreateBody>) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let url = checks.required("url", &body.url, url(&request.service));
    let event_types = checks.optional("event_types", &body.event_types, event_types);
    let organization_id = checks.optional("organization_id", &body.organization_id, parsed::<OrganizationId>);
    let organization_id = request.owning_organization(organization_id)?;
    request.caller.require_all_of(Grant::of_receiver(organization_id.as_ref()))?;
    checks.unknown(&body.unknown);
    checks.finish()?;
    let url = url.ok_or_else(|| Problem::of(Code::InvalidRequest))?;
    check_count(&request.service)?;
    let facts = WebhookRegistered { url, event_types: event_types.unwrap_or_default() };
    let command = WebhookCommand::Register { organization_id, facts };
    let command = Command::Webhook(request.service.new_id(), command);
    let outcome: Outcome<Webhook> = request.execute_once("POST /v1/webhooks", &body.bytes, command).await?;
    let reply = outcome.created(&format!("/v1/webhooks/{}", outcome.object.id));
    with_secret(&request.service, reply, &outcome)
}

/// Checks the number of all webhooks. That of an organization's is capped where its command is admitted.
fn check_count(service: &Service) -> Result<(), Problem> {
    let webhooks = service.index.webhooks(None, usize::MAX);
    let existing = webhooks.iter().filter(|webhook| webhook.deleted_at.is_none());
    if existing.count() >= WEBHOOKS_MAX { Err(Problem::of(Code::TooManyWebhooks)) } else { Ok(()) }
}

fn with_secret(service: &Service, reply: Reply, outcome: &Outcome<Webhook>) -> Result<Response, Problem> {
    let webhook = &outcome.object;
    let secret = service.webhooks.keys.secret(webhook.id, webhook.generation).expose();
    let shown = WebhookWithSecret {
        webhook: WebhookView::of(service, webhook),
        secret: (!outcome.replayed).then_some(secret.as_str()),
    };
    reply.secret().json(&shown)
}

/// Returns a webhook that the caller may see.
pub(super) fn visible(request: &RequestContext, id: &str) -> Result<Arc<Webhook>, Problem> {
    let id = id.parse::<WebhookId>().ok();
    request.visible(id.and_then(|id| request.service.index.webhook(id)), Code::WebhookNotFound)
}

/// Lists webhooks in the order of their registration, including deleted ones.
#[utoipa::path(get, path = "/v1/webhooks", operation_id = "listWebhooks", tag = "Webhooks",
    params(BoundPaging),
    responses((status = 200, body = Page<WebhookView>, description = "a page of webhooks")))]
async fn list(request: RequestContext, Query(bound): Query<BoundPaging>) -> Result<Response, Problem> {
    let position = request.index_position();
    let all = request.service.index.webhooks(None, usize::MAX);
    let view = |it: &Webhook| WebhookView::of(&request.service, it);
    Reply::at(position).json(&bound.page_of_visible(&request.caller, all, view)?)
}

/// Returns a webhook, even a deleted one, with the state of its deliveries. The answer never has its secret.
#[utoipa::path(get, path = "/v1/webhooks/{id}", operation_id = "getWebhook", tag = "Webhooks",
    params(ObjectId, IfMatch),
    responses(
        (status = 200, body = WebhookView, description = "the webhook"),
        (status = 404, body = ProblemBody, description = "`webhook_not_found`"),
    ))]
async fn read(request: RequestContext, id: PathId) -> Result<Response, Problem> {
    let position = request.index_position();
    let webhook = visible(&request, &id)?;
    request.show(position, webhook.version, &WebhookView::of(&request.service, &webhook))
}

/// Changes to a webhook. An absent field keeps its value.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = EditWebhook)]
struct EditBody {
    /// The address that receives the messages from now on, including those that already wait.
    #[schema(value_type = Option<String>, max_length = 2048)]
    #[serde(default)]
    url: Field,
    /// All types of events it receives from now on. An empty list means all types.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    event_types: Field,
    /// `false` stops deliveries. `true` resumes them where they stopped, without skipping an event.
    #[schema(value_type = Option<bool>)]
    #[serde(default)]
    enabled: Field,
}

/// Changes a webhook's address or event types, or disables or enables it.
#[utoipa::path(patch, path = "/v1/webhooks/{id}", operation_id = "editWebhook", tag = "Webhooks",
    request_body = EditBody, params(ObjectId, IfMatch),
    responses(
        (status = 200, body = WebhookView, description = "the changed webhook"),
        (status = 410, body = ProblemBody, description = "`webhook_deleted`"),
    ))]
async fn edit(request: RequestContext, id: PathId, body: JsonBody<EditBody>) -> Result<Response, Problem> {
    let webhook = visible(&request, &id)?;
    request.caller.require_all_of(Grant::of_webhook(&webhook))?;
    let mut checks = Checks::default();
    let url = checks.change("url", &body.url, url(&request.service));
    if url == Some(None) {
        checks.fail(
            "/url",
            "must not be null, because a webhook needs an address; delete the webhook, or set `enabled` to \
            false",
        );
    }
    let url = url.flatten();
    let event_types = checks.optional("event_types", &body.event_types, event_types);
    let enabled = checks.optional("enabled", &body.enabled, boolean);
    checks.unknown(&body.unknown);
    checks.finish()?;
    let command = Command::Webhook(webhook.id, WebhookCommand::Edit { url, event_types, enabled });
    let outcome: Outcome<Webhook> = request.execute(command).await?;
    outcome.reply().json(&WebhookView::of(&request.service, &outcome.object))
}

/// How a webhook's secret is replaced.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = RotateWebhookSecret)]
struct RotateBody {
    /// For how many seconds the previous secret also signs: 0 to 604,800 (a week). Default 86,400 (a day).
    #[schema(value_type = Option<u32>, example = 3600)]
    #[serde(default)]
    overlap_seconds: Field,
}

/// Replaces a webhook's secret. During the overlap, messages carry a signature with each secret, so that the
/// receiver can switch at any moment.
#[utoipa::path(post, path = "/v1/webhooks/{id}/rotate-secret", operation_id = "rotateWebhookSecret",
    tag = "Webhooks", request_body = Option<RotateBody>, params(ObjectId, IdempotencyKey, IfMatch),
    responses(
        (status = 200, body = WebhookWithSecret, description = "the webhook and its new secret"),
        (status = 410, body = ProblemBody, description = "`webhook_deleted`"),
    ))]
async fn rotate_secret(
    request: RequestContext,
    id: PathId,
    body: JsonBody<RotateBody>,
) -> Result<Response, Problem> {
    let webhook = visible(&request, &id)?;
    request.caller.require_all_of(Grant::of_webhook(&webhook))?;
    let mut checks = Checks::default();
    let overlap = checks.optional("overlap_seconds", &body.overlap_seconds, number(OVERLAP_SECONDS_MAX));
    checks.unknown(&body.unknown);
    checks.finish()?;
    let overlap_millis =
        i64::try_from(overlap.unwrap_or(OVERLAP_SECONDS_DEFAULT) * 1_000).unwrap_or(i64::MAX);
    let command = Command::Webhook(webhook.id, WebhookCommand::RotateSecret { overlap_millis });
    let endpoint = format!("POST /v1/webhooks/{id}/rotate-secret");
    let outcome = request.execute_once(&endpoint, &body.bytes, command).await?;
    with_secret(&request.service, outcome.reply(), &outcome)
}

/// Deletes a webhook and its waiting messages. This is final.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", operation_id = "deleteWebhook", tag = "Webhooks",
    params(ObjectId, IfMatch),
    responses(
        (status = 204, description = "the webhook is deleted"),
        (status = 410, body = ProblemBody, description = "`webhook_deleted`: it was already deleted"),
    ))]
async fn delete(request: RequestContext, id: PathId) -> Result<Response, Problem> {
    let id = visible(&request, &id)?.id;
    request.execute_without_answer(Command::Webhook(id, WebhookCommand::Delete)).await
}
