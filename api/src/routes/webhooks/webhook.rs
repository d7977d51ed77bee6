//! Webhooks: where events are pushed to, and with which secret they are signed.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use keyledger_engine::domain::webhook::{
    MessageType, Webhook, WebhookCommand, WebhookRegistered, WebhookUrl,
};
use keyledger_engine::ledger::{Aggregate, Command, Committed};
use keyledger_engine::value::id::{OrganizationId, WebhookId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::problem::{Code, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::answer::view::{Page, WebhookView};
use crate::auth::caller::Caller;
use crate::jobs::webhooks::{WEBHOOKS_MAX, WEBHOOKS_OF_ORGANIZATION_MAX};
use crate::request::body::{Checks, Field, Json, Reading, boolean, number, parsed, set};
use crate::request::execution::{Outcome, execute, outcome};
use crate::request::paging::{BoundPageQuery, BoundPaging};
use crate::request::precondition::{check_version, reach_min_position};
use crate::request::query::PathId;
use crate::service::Service;

/// An earlier secret signs beside the new one for at most this long: a week.
const OVERLAP_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;
/// For as long as it does unless the call says otherwise: a day.
const OVERLAP_SECONDS_DEFAULT: u64 = 24 * 60 * 60;

/// The calls about webhooks.
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
    /// Where messages go: an `https://` address on the internet.
    #[schema(value_type = String, required = true, max_length = 2048, example = "https://example.com/keyledger")]
    #[serde(default)]
    url: Field,
    /// The types of events that it is to be told of, and `KeyExpiringSoon`; everything if left out or empty.
    #[schema(value_type = Option<Vec<String>>, example = json!(["KeyRevoked", "KeyExpiringSoon"]))]
    #[serde(default)]
    event_types: Field,
    /// The organization whose events it is to be told of; all events if left out by a caller who sees all.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    organization_id: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// A webhook with its secret.
#[derive(Serialize, ToSchema)]
struct WebhookWithSecret<'a> {
    /// The webhook.
    webhook: WebhookView,
    /// What its messages are signed with, this once: `whsec_` and base64. Left out when the call repeats an earlier one.
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

/// Registers a webhook. It is told of what happens from then on. The answer is the only one that shows its secret.
#[utoipa::path(post, path = "/v1/webhooks", operation_id = "createWebhook", tag = "Webhooks", request_body = CreateBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "names the call for 24 hours: repeated, it takes place once")),
    responses(
        (status = 201, body = WebhookWithSecret, description = "the webhook and its secret"),
        (status = 404, body = ProblemBody, description = "`organization_not_found`"),
        (status = 410, body = ProblemBody, description = "`organization_deleted`"),
        (status = 409, body = ProblemBody, description = "`too_many_webhooks`"),
        (status = 422, body = ProblemBody, description = "`invalid_request` with every field that fails"),
    ))]
async fn create(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    Json { body, bytes }: Json<CreateBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let url = checks.required("url", &body.url, url(&service));
    let event_types = checks.optional("event_types", &body.event_types, event_types);
    let organization_id = checks.optional("organization_id", &body.organization_id, parsed::<OrganizationId>);
    // What is not the caller's own is not there.
    let organization_id = match (caller.bound_to(), organization_id) {
        (Some(bound), Some(id)) if *bound != id => return Err(Problem::of(Code::OrganizationNotFound)),
        (Some(bound), _) => Some(bound.clone()),
        (None, id) => id,
    };
    checks.unknown(&body.unknown);
    checks.finish()?;
    let url = url.ok_or_else(|| Problem::of(Code::InvalidRequest))?;
    check_count(&service, organization_id.as_ref())?;
    let id = service.new_id();
    let facts = WebhookRegistered { url, event_types: event_types.unwrap_or_default() };
    let command = Command::Webhook(id, WebhookCommand::Register { organization_id, facts });
    let name = ("POST /v1/webhooks", bytes.as_ref());
    let outcome = webhook_outcome(execute(&service, &caller, &headers, Some(name), command).await?)?;
    let location = format!("/v1/webhooks/{}", outcome.object.id);
    let reply = Reply::at(outcome.position).status(StatusCode::CREATED).location(&location);
    with_secret(&service, reply, &outcome)
}

fn check_count(service: &Service, organization_id: Option<&OrganizationId>) -> Result<(), Problem> {
    let webhooks = service.index.webhooks(None, usize::MAX);
    let living = webhooks.iter().filter(|webhook| webhook.deleted_at.is_none());
    let of_organization = living
        .clone()
        .filter(|it| organization_id.is_some() && it.organization_id.as_ref() == organization_id)
        .count();
    if living.count() >= WEBHOOKS_MAX || of_organization >= WEBHOOKS_OF_ORGANIZATION_MAX {
        return Err(Problem::of(Code::TooManyWebhooks));
    }
    Ok(())
}

fn view(service: &Service, webhook: &Webhook) -> WebhookView {
    let now = service.now();
    let shown = service
        .webhooks
        .deliveries
        .with_existing(webhook.id, |queue| WebhookView::of(webhook, Some(queue), now));
    shown.unwrap_or_else(|| WebhookView::of(webhook, None, now))
}

fn with_secret(service: &Service, reply: Reply, outcome: &Outcome<Webhook>) -> Result<Response, Problem> {
    let webhook = &outcome.object;
    let secret = service.webhooks.keys.secret(webhook.id, webhook.generation).expose();
    let shown = WebhookWithSecret {
        webhook: view(service, webhook),
        secret: (!outcome.replayed).then_some(secret.as_str()),
    };
    reply.version(outcome.version).secret().replayed(outcome.replayed).json(&shown)
}

fn webhook_outcome(committed: Committed) -> Result<Outcome<Webhook>, Problem> {
    outcome(committed, |aggregate| match aggregate {
        Aggregate::Webhook(webhook) => {
            let version = webhook.version;
            Some((webhook, version))
        }
        _ => None,
    })
}

/// A webhook that the caller may see.
pub(in crate::routes) fn visible(
    service: &Service,
    caller: &Caller,
    id: &str,
) -> Result<Arc<Webhook>, Problem> {
    let webhook = id.parse::<WebhookId>().ok().and_then(|id| service.index.webhook(id));
    webhook
        .filter(|it| caller.sees_owned_by(it.organization_id.as_ref()))
        .ok_or_else(|| Problem::of(Code::WebhookNotFound))
}

/// Lists webhooks in the order of their registration, deleted ones too.
#[utoipa::path(get, path = "/v1/webhooks", operation_id = "listWebhooks", tag = "Webhooks", params(BoundPageQuery),
    responses((status = 200, body = Page<WebhookView>, description = "a page of webhooks")))]
async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    bound: BoundPaging,
) -> Result<Response, Problem> {
    reach_min_position(&headers, &service.index.watch()).await?;
    let position = service.index.position();
    let after = bound.paging.after::<WebhookId>()?;
    let mut all = service.index.webhooks(None, usize::MAX);
    all.retain(|it| {
        caller.sees_owned_by(it.organization_id.as_ref()) && bound.has(it.organization_id.as_ref())
    });
    let page = bound.paging.page_of_all(all, after.as_ref(), |it| it.id, |it| view(&service, it));
    Reply::at(position).json(&page)
}

/// Shows a webhook, also a deleted one, and how far its deliveries are; never its secret.
#[utoipa::path(get, path = "/v1/webhooks/{id}", operation_id = "getWebhook", tag = "Webhooks", params(("id" = String, Path, description = "its id"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 200, body = WebhookView, description = "the webhook"),
        (status = 404, body = ProblemBody, description = "`webhook_not_found`"),
    ))]
async fn read(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    reach_min_position(&headers, &service.index.watch()).await?;
    let position = service.index.position();
    let webhook = visible(&service, &caller, &id)?;
    check_version(&headers, webhook.version)?;
    Reply::at(position).version(webhook.version).json(&view(&service, &webhook))
}

/// Changes to a webhook; what is absent stays.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = EditWebhook)]
struct EditBody {
    /// Where messages go from now on, those that wait too.
    #[schema(value_type = Option<String>, max_length = 2048)]
    #[serde(default)]
    url: Field,
    /// All that it is told of from now on; everything if empty.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    event_types: Field,
    /// `false`: nothing is delivered; `true`: delivery goes on where it ended, and nothing is left out.
    #[schema(value_type = Option<bool>)]
    #[serde(default)]
    enabled: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// Changes where a webhook is and what it is told of, disables or enables it.
#[utoipa::path(patch, path = "/v1/webhooks/{id}", operation_id = "editWebhook", tag = "Webhooks", request_body = EditBody,
    params(("id" = String, Path, description = "its id"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 200, body = WebhookView, description = "the webhook after it"),
        (status = 410, body = ProblemBody, description = "`webhook_deleted`"),
        (status = 412, body = ProblemBody, description = "`version_conflict`"),
        (status = 422, body = ProblemBody, description = "`invalid_request` with every field that fails"),
    ))]
async fn edit(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
    Json { body, .. }: Json<EditBody>,
) -> Result<Response, Problem> {
    let id = visible(&service, &caller, &id)?.id;
    let mut checks = Checks::default();
    let url = checks.change("url", &body.url, url(&service));
    if url == Some(None) {
        checks.fail(
            "/url",
            "must not be null: a webhook has an address; delete the webhook, or set `enabled` to false",
        );
    }
    let url = url.flatten();
    let event_types = checks.optional("event_types", &body.event_types, event_types);
    let enabled = checks.optional("enabled", &body.enabled, boolean);
    checks.unknown(&body.unknown);
    checks.finish()?;
    let command = Command::Webhook(id, WebhookCommand::Edit { url, event_types, enabled });
    let outcome = webhook_outcome(execute(&service, &caller, &headers, None, command).await?)?;
    Reply::at(outcome.position).version(outcome.version).json(&view(&service, &outcome.object))
}

/// How long the secret before the new one signs beside it.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = RotateWebhookSecret)]
struct RotateBody {
    /// In seconds, a week at most; a day if left out, 0 for not at all.
    #[schema(value_type = Option<u32>, example = 3600)]
    #[serde(default)]
    overlap_seconds: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// Gives a webhook a new secret. Until the overlap is over, messages carry a signature with each, so that the receiver can
/// change from one to the other at any moment.
#[utoipa::path(post, path = "/v1/webhooks/{id}/rotate-secret", operation_id = "rotateWebhookSecret", tag = "Webhooks", request_body = Option<RotateBody>,
    params(("id" = String, Path, description = "its id"), ("Idempotency-Key" = Option<String>, Header, description = "names the call for 24 hours: repeated, it takes place once"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 200, body = WebhookWithSecret, description = "the webhook and its new secret"),
        (status = 410, body = ProblemBody, description = "`webhook_deleted`"),
    ))]
async fn rotate_secret(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
    Json { body, bytes }: Json<RotateBody>,
) -> Result<Response, Problem> {
    let webhook = visible(&service, &caller, &id)?;
    let mut checks = Checks::default();
    let overlap = checks.optional("overlap_seconds", &body.overlap_seconds, number(OVERLAP_SECONDS_MAX));
    checks.unknown(&body.unknown);
    checks.finish()?;
    let overlap_millis =
        i64::try_from(overlap.unwrap_or(OVERLAP_SECONDS_DEFAULT) * 1_000).unwrap_or(i64::MAX);
    let command = Command::Webhook(webhook.id, WebhookCommand::RotateSecret { overlap_millis });
    let name = format!("POST /v1/webhooks/{id}/rotate-secret");
    let committed = execute(&service, &caller, &headers, Some((&name, &bytes)), command).await?;
    let outcome = webhook_outcome(committed)?;
    with_secret(&service, Reply::at(outcome.position), &outcome)
}

/// Deletes a webhook, for good, with all that waits for it.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", operation_id = "deleteWebhook", tag = "Webhooks",
    params(("id" = String, Path, description = "its id"), ("If-Match" = Option<String>, Header, description = "the `ETag` that the object must have")),
    responses(
        (status = 204, description = "it is deleted"),
        (status = 410, body = ProblemBody, description = "`webhook_deleted`: it was before"),
    ))]
async fn delete(
    State(service): State<Arc<Service>>,
    caller: Caller,
    headers: HeaderMap,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let id = visible(&service, &caller, &id)?.id;
    let command = Command::Webhook(id, WebhookCommand::Delete);
    let committed = execute(&service, &caller, &headers, None, command).await?;
    Ok(Reply::at(committed.position).empty())
}
