//! Deliveries of a webhook: waiting messages, dead letters, tests and redelivery.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::Path;
use axum::response::Response;
use keyledger_engine::domain::webhook::Webhook;
use keyledger_engine::value::id::EventId;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::beside_the_log::deliveries::{self, DeadLetter, Pending};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::webhook::visible;
use crate::answer::code::Code;
use crate::answer::page::Page;
use crate::answer::problem::{Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::jobs::webhooks::content;
use crate::openapi::parameters::ObjectId;
use crate::request::body::{Checks, Field, Json, JsonBody, NoFields, number};
use crate::request::context::RequestContext;
use crate::request::paging::Paging;
use crate::request::query::{PathId, Query};
use crate::service::Service;

/// The type of a test message. It is not an event type, and every webhook can receive it.
const TEST: &str = "WebhookTest";

/// Returns the endpoints about deliveries.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(test))
        .routes(routes!(list_pending))
        .routes(routes!(list_dead_letters))
        .routes(routes!(redeliver_dead_letter))
        .routes(routes!(redeliver))
}

/// The id of a message within its webhook: `msg_` and its number.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct MessageNumber(u64);

impl FromStr for MessageNumber {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number: u64 = text.strip_prefix("msg_").and_then(|digits| digits.parse().ok()).ok_or(())?;
        // Only the canonical spelling of a number is accepted.
        if Self(number).to_string() == text { Ok(Self(number)) } else { Err(()) }
    }
}

impl fmt::Display for MessageNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "msg_{}", self.0)
    }
}

/// A message that waits or is being sent.
#[derive(Serialize, ToSchema)]
#[schema(as = PendingMessage)]
struct PendingView {
    /// The message's id within the webhook.
    #[schema(example = "msg_17")]
    id: String,
    /// The header `webhook-id` of the message: the event's id.
    webhook_id_header: String,
    /// The type of the event or message.
    #[schema(example = "KeyRevoked")]
    r#type: String,
    /// The event's position.
    position: Option<u64>,
    /// The number of attempts so far.
    attempts: u16,
    /// When the next attempt is due. Earlier messages about the same key are sent first.
    #[schema(value_type = String, format = DateTime)]
    next_attempt_at: Timestamp,
    /// Why the last attempt failed.
    failure: Option<String>,
}

impl PendingView {
    fn of((number, pending): &(u64, Pending)) -> Self {
        let Pending { message, attempts, due, failure, .. } = pending;
        Self {
            id: MessageNumber(*number).to_string(),
            webhook_id_header: message.id(),
            r#type: message.message_type().into(),
            position: message.position().map(Position::get),
            attempts: *attempts,
            next_attempt_at: *due,
            failure: failure.map(|failure| failure.to_string()),
        }
    }
}

/// A message whose delivery was given up.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
struct DeadLetterView {
    /// The message's id within the webhook.
    #[schema(example = "msg_17")]
    id: String,
    /// The header `webhook-id` of the message: the event's id.
    webhook_id_header: String,
    /// The type of the event or message.
    #[schema(example = "KeyRevoked")]
    r#type: String,
    /// The event's position.
    position: Option<u64>,
    /// The number of attempts.
    attempts: u16,
    /// When delivery was given up.
    #[schema(value_type = String, format = DateTime)]
    given_up_at: Timestamp,
    /// Why the last attempt failed.
    failure: String,
}

impl DeadLetterView {
    fn of((number, letter): &(u64, DeadLetter)) -> Self {
        let DeadLetter { message, attempts, given_up_at, failure, .. } = letter;
        Self {
            id: MessageNumber(*number).to_string(),
            webhook_id_header: message.id(),
            r#type: message.message_type().into(),
            position: message.position().map(Position::get),
            attempts: *attempts,
            given_up_at: *given_up_at,
            failure: failure.to_string(),
        }
    }
}

async fn blocking<T: Send + 'static>(
    service: &Arc<Service>,
    work: impl FnOnce(&Service) -> Result<T, deliveries::Error> + Send + 'static,
) -> Result<T, Problem> {
    let shared = Arc::clone(service);
    service.blocking(move || work(&shared)).await?.map_err(|error| Problem::internal(&error))
}

fn after(paging: &Paging) -> Result<u64, Problem> {
    Ok(paging.after::<MessageNumber>()?.map_or(0, |number| number.0))
}

/// The result of a test.
#[derive(Serialize, ToSchema)]
struct TestResult {
    /// Whether the receiver answered with a status of 200 to 299.
    delivered: bool,
    /// Why the delivery failed.
    failure: Option<String>,
}

/// Sends a signed message of type `WebhookTest` to a webhook at once, and returns the result. The message is
/// not retried. A disabled webhook can be tested, too.
#[utoipa::path(post, path = "/v1/webhooks/{id}/test", operation_id = "testWebhook", tag = "Webhooks",
    request_body = Option<NoFields>, params(ObjectId),
    responses(
        (status = 200, body = TestResult, description = "the result"),
        (status = 410, body = ProblemBody, description = "`webhook_deleted`"),
        (status = 503, body = ProblemBody, description = "`overloaded`: too many tests at once"),
    ))]
async fn test(
    request: RequestContext,
    id: PathId,
    Json { body, .. }: Json<NoFields>,
) -> Result<Response, Problem> {
    let webhook = existing(&request, &id)?;
    body.check()?;
    let service = &request.service;
    let _permit = service.webhooks.tests.try_acquire().map_err(|_| Problem::of(Code::Overloaded))?;
    let now = service.now();
    let message_id: EventId = service.new_id();
    let body = content::body(TEST, now, &json!({ "webhook_id": webhook.id.to_string() }));
    let (webhooks, message_id) = (&service.webhooks, message_id.to_string().replace("evt_", "test_"));
    let sent = webhooks.sender.send(&webhook, &webhooks.keys, &message_id, body, now).await;
    let failure = sent.err().map(|refused| refused.failure.to_string());
    Reply::at(request.index_position()).json(&TestResult { delivered: failure.is_none(), failure })
}

/// Returns a webhook that the caller may see and that was not deleted.
fn existing(request: &RequestContext, id: &str) -> Result<Arc<Webhook>, Problem> {
    let webhook = visible(request, id)?;
    if webhook.deleted_at.is_some() {
        return Err(Problem::of(Code::WebhookDeleted));
    }
    Ok(webhook)
}

/// Lists a webhook's messages that wait or are being sent, in the order of their events. Events after the
/// webhook's `position` are still in the log and not in this list.
#[utoipa::path(get, path = "/v1/webhooks/{id}/pending", operation_id = "listPendingMessages",
    tag = "Webhooks", params(ObjectId, Paging),
    responses(
        (status = 200, body = Page<PendingView>, description = "a page of messages"),
        (status = 404, body = ProblemBody, description = "`webhook_not_found`"),
    ))]
async fn list_pending(
    request: RequestContext,
    id: PathId,
    Query(paging): Query<Paging>,
) -> Result<Response, Problem> {
    let webhook = visible(&request, &id)?;
    let after = after(&paging)?;
    let position = request.index_position();
    let deliveries = &request.service.webhooks.deliveries;
    let found =
        deliveries.with_existing(webhook.id, |queue| (queue.page(after, paging.limit + 1), queue.len()));
    let (found, total) = found.unwrap_or_default();
    let id = |it: &(u64, Pending)| MessageNumber(it.0).to_string();
    Reply::at(position).json(&paging.page(found, total as u64, id, PendingView::of))
}

/// Lists the messages whose delivery was given up after the last attempt, in the order of their events. Only
/// the newest 10,000 are kept; the log has the events of all.
#[utoipa::path(get, path = "/v1/webhooks/{id}/dead-letters", operation_id = "listDeadLetters",
    tag = "Webhooks", params(ObjectId, Paging),
    responses(
        (status = 200, body = Page<DeadLetterView>, description = "a page of messages"),
        (status = 404, body = ProblemBody, description = "`webhook_not_found`"),
    ))]
async fn list_dead_letters(
    request: RequestContext,
    id: PathId,
    Query(paging): Query<Paging>,
) -> Result<Response, Problem> {
    let id = visible(&request, &id)?.id;
    let (after, limit) = (after(&paging)?, paging.limit + 1);
    let position = request.index_position();
    let service = &request.service;
    let found =
        blocking(service, move |service| service.webhooks.deliveries.dead_letters(id, after, limit)).await?;
    let total = service.webhooks.deliveries.with_existing(id, |queue| queue.letter_count()).unwrap_or(0);
    let id = |it: &(u64, DeadLetter)| MessageNumber(it.0).to_string();
    Reply::at(position).json(&paging.page(found, total as u64, id, DeadLetterView::of))
}

/// The state after a redelivery was requested.
#[derive(Serialize, ToSchema)]
struct Redelivering {
    /// The number of messages that wait now.
    pending: usize,
}

fn redelivering(request: &RequestContext, webhook: &Webhook) -> Result<Response, Problem> {
    let webhooks = &request.service.webhooks;
    let pending = webhooks.deliveries.with_existing(webhook.id, |queue| queue.len()).unwrap_or(0);
    webhooks.wake();
    Reply::at(request.index_position()).json(&Redelivering { pending })
}

/// Returns an enabled webhook that the caller may see.
fn enabled(request: &RequestContext, id: &str) -> Result<Arc<Webhook>, Problem> {
    let webhook = existing(request, id)?;
    if !webhook.is_enabled() {
        return Err(Problem::of(Code::WebhookDisabled));
    }
    Ok(webhook)
}

/// Redelivers a dead letter with the same message id, after the messages that already wait for the same key.
#[utoipa::path(post, path = "/v1/webhooks/{id}/dead-letters/{letter}/redeliver",
    operation_id = "redeliverDeadLetter", tag = "Webhooks", request_body = Option<NoFields>,
    params(
        ("id" = String, Path, description = "the webhook's id"),
        ("letter" = String, Path, description = "the dead letter's id"),
    ),
    responses(
        (status = 200, body = Redelivering, description = "the message waits to be sent"),
        (status = 404, body = ProblemBody, description = "`webhook_not_found`, `dead_letter_not_found`"),
        (status = 409, body = ProblemBody, description = "`webhook_disabled`"),
    ))]
async fn redeliver_dead_letter(
    request: RequestContext,
    Path((id, letter)): Path<(String, String)>,
    Json { body, .. }: Json<NoFields>,
) -> Result<Response, Problem> {
    let webhook = enabled(&request, &id)?;
    body.check()?;
    let number: MessageNumber = letter.parse().map_err(|()| Problem::of(Code::DeadLetterNotFound))?;
    let (now, concerned) = (request.service.now(), Arc::clone(&webhook));
    let redeliver = move |service: &Service| service.webhooks.deliveries.redeliver(&concerned, number.0, now);
    if !blocking(&request.service, redeliver).await? {
        return Err(Problem::of(Code::DeadLetterNotFound));
    }
    redelivering(&request, &webhook)
}

/// Where redelivery begins.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = Redeliver)]
struct RedeliverBody {
    /// The position before the first event to redeliver. 0 redelivers all events.
    #[schema(value_type = u64, required = true, example = 1200)]
    #[serde(default)]
    after: Field,
}

/// Redelivers all events after a position that the webhook receives, including those before its registration.
/// Receivers recognize repetitions by the header `webhook-id`.
#[utoipa::path(post, path = "/v1/webhooks/{id}/redeliver", operation_id = "redeliverEvents", tag = "Webhooks",
    request_body = RedeliverBody, params(ObjectId),
    responses(
        (status = 200, body = Redelivering, description = "the events are read from the log again"),
        (status = 404, body = ProblemBody, description = "`webhook_not_found`"),
        (status = 409, body = ProblemBody, description = "`webhook_disabled`"),
    ))]
async fn redeliver(
    request: RequestContext,
    id: PathId,
    body: JsonBody<RedeliverBody>,
) -> Result<Response, Problem> {
    let webhook = enabled(&request, &id)?;
    let mut checks = Checks::default();
    let after = checks.required("after", &body.after, number(u64::MAX));
    checks.unknown(&body.unknown);
    checks.finish()?;
    let after = Position::new(after.ok_or_else(|| Problem::of(Code::InvalidRequest))?);
    let concerned = Arc::clone(&webhook);
    let redeliver = move |service: &Service| service.webhooks.deliveries.redeliver_after(&concerned, after);
    blocking(&request.service, redeliver).await?;
    redelivering(&request, &webhook)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_spelling() {
        assert_eq!("msg_17".parse(), Ok(MessageNumber(17)));
        for bad in ["17", "msg_", "msg_017", "msg_+1", "msg_-1", "msg_18446744073709551616"] {
            assert!(bad.parse::<MessageNumber>().is_err(), "{bad}");
        }
    }
}
