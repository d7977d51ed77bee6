//! What a webhook is still to be told of, what was given up, and telling it again.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use keyledger_engine::domain::webhook::Webhook;
use keyledger_engine::value::id::EventId;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::beside_the_log::deliveries::{self, DeadLetter, Pending};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::webhook::visible;
use crate::answer::problem::{Code, Problem, ProblemBody};
use crate::answer::reply::Reply;
use crate::answer::view::Page;
use crate::auth::caller::Caller;
use crate::jobs::webhooks::content;
use crate::request::body::{Checks, Field, Json, NoFields, number};
use crate::request::paging::{PageQuery, Paging};
use crate::request::query::PathId;
use crate::service::Service;

/// The message of a test: no event, and no webhook has to ask for it.
const TEST: &str = "WebhookTest";

/// The calls about deliveries.
pub(crate) fn router() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(test))
        .routes(routes!(list_pending))
        .routes(routes!(list_dead_letters))
        .routes(routes!(redeliver_dead_letter))
        .routes(routes!(redeliver))
}

/// Names a message of one webhook: `msg_` and its number.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct MessageNumber(u64);

impl FromStr for MessageNumber {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number: u64 = text.strip_prefix("msg_").and_then(|digits| digits.parse().ok()).ok_or(())?;
        // One number has one spelling.
        if Self(number).to_string() == text { Ok(Self(number)) } else { Err(()) }
    }
}

impl fmt::Display for MessageNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "msg_{}", self.0)
    }
}

/// A message that waits, or is being sent.
#[derive(Serialize, ToSchema)]
#[schema(as = PendingMessage)]
struct PendingView {
    /// Names it among those of the webhook.
    #[schema(example = "msg_17")]
    id: String,
    /// The header `webhook-id` that it is sent with: the event's id.
    webhook_id_header: String,
    /// What it is about.
    #[schema(example = "KeyRevoked")]
    r#type: String,
    /// The event's position.
    position: Option<u64>,
    /// How often it was tried.
    attempts: u16,
    /// When it is tried next, once those of the same key before it are done.
    #[schema(value_type = String, format = DateTime)]
    next_attempt_at: Timestamp,
    /// Why it failed last.
    failure: Option<String>,
}

/// A message that was given up.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
struct DeadLetterView {
    /// Names it among those of the webhook.
    #[schema(example = "msg_17")]
    id: String,
    /// The header `webhook-id` that it was sent with: the event's id.
    webhook_id_header: String,
    /// What it is about.
    #[schema(example = "KeyRevoked")]
    r#type: String,
    /// The event's position.
    position: Option<u64>,
    /// How often it was tried.
    attempts: u16,
    /// When it was given up.
    #[schema(value_type = String, format = DateTime)]
    given_up_at: Timestamp,
    /// Why it failed last.
    failure: String,
}

fn pending_view((number, pending): &(u64, Pending)) -> PendingView {
    let Pending { message, attempts, due, failure, .. } = pending;
    PendingView {
        id: MessageNumber(*number).to_string(),
        webhook_id_header: message.id(),
        r#type: message.message_type().into(),
        position: message.position().map(Position::get),
        attempts: *attempts,
        next_attempt_at: *due,
        failure: failure.map(|failure| failure.to_string()),
    }
}

fn dead_letter_view((number, letter): &(u64, DeadLetter)) -> DeadLetterView {
    let DeadLetter { message, attempts, given_up_at, failure, .. } = letter;
    DeadLetterView {
        id: MessageNumber(*number).to_string(),
        webhook_id_header: message.id(),
        r#type: message.message_type().into(),
        position: message.position().map(Position::get),
        attempts: *attempts,
        given_up_at: *given_up_at,
        failure: failure.to_string(),
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

/// What became of a test.
#[derive(Serialize, ToSchema)]
struct TestResult {
    /// Whether the receiver answered with a status of 200 to 299.
    delivered: bool,
    /// Why not.
    failure: Option<String>,
}

/// Sends a webhook a signed message of type `WebhookTest` at once, and says what became of it. It is not tried again, and a
/// disabled webhook can be tested too.
#[utoipa::path(post, path = "/v1/webhooks/{id}/test", operation_id = "testWebhook", tag = "Webhooks", request_body = Option<NoFields>,
    params(("id" = String, Path, description = "its id")),
    responses(
        (status = 200, body = TestResult, description = "what became of it"),
        (status = 410, body = ProblemBody, description = "`webhook_deleted`"),
        (status = 503, body = ProblemBody, description = "`overloaded`: too many tests at once"),
    ))]
async fn test(
    State(service): State<Arc<Service>>,
    caller: Caller,
    PathId(id): PathId,
    Json { body, .. }: Json<NoFields>,
) -> Result<Response, Problem> {
    let webhook = living(&service, &caller, &id)?;
    body.check()?;
    let _permit = service.webhooks.tests.try_acquire().map_err(|_| Problem::of(Code::Overloaded))?;
    let now = service.now();
    let message_id: EventId = service.new_id();
    let body = content::body(TEST, now, &json!({ "webhook_id": webhook.id.to_string() }));
    let (webhooks, message_id) = (&service.webhooks, message_id.to_string().replace("evt_", "test_"));
    let sent = webhooks.sender.send(&webhook, &webhooks.keys, &message_id, body, now).await;
    let failure = sent.err().map(|refused| refused.failure.to_string());
    Reply::at(service.index.position()).json(&TestResult { delivered: failure.is_none(), failure })
}

/// A webhook that the caller may see and that was not deleted.
fn living(service: &Service, caller: &Caller, id: &str) -> Result<Arc<Webhook>, Problem> {
    let webhook = visible(service, caller, id)?;
    if webhook.deleted_at.is_some() {
        return Err(Problem::of(Code::WebhookDeleted));
    }
    Ok(webhook)
}

/// Lists the messages that wait for a webhook or are being sent, in the order in which they came. What is later than the
/// webhook's `position` waits in the log and is not among them.
#[utoipa::path(get, path = "/v1/webhooks/{id}/pending", operation_id = "listPendingMessages", tag = "Webhooks",
    params(("id" = String, Path, description = "the webhook's id"), PageQuery),
    responses(
        (status = 200, body = Page<PendingView>, description = "a page of messages"),
        (status = 404, body = ProblemBody, description = "`webhook_not_found`"),
    ))]
async fn list_pending(
    State(service): State<Arc<Service>>,
    caller: Caller,
    PathId(id): PathId,
    paging: Paging,
) -> Result<Response, Problem> {
    let webhook = visible(&service, &caller, &id)?;
    let after = after(&paging)?;
    let position = service.index.position();
    let found = service
        .webhooks
        .deliveries
        .with_existing(webhook.id, |queue| (queue.page(after, paging.limit + 1), queue.len()));
    let (found, total) = found.unwrap_or_default();
    let id = |it: &(u64, Pending)| MessageNumber(it.0).to_string();
    Reply::at(position).json(&paging.page(found, total as u64, id, pending_view))
}

/// Lists the messages that were given up after the last attempt, in the order in which they came. Of more than 10,000 the
/// oldest are not kept; the log has their events.
#[utoipa::path(get, path = "/v1/webhooks/{id}/dead-letters", operation_id = "listDeadLetters", tag = "Webhooks",
    params(("id" = String, Path, description = "the webhook's id"), PageQuery),
    responses(
        (status = 200, body = Page<DeadLetterView>, description = "a page of messages"),
        (status = 404, body = ProblemBody, description = "`webhook_not_found`"),
    ))]
async fn list_dead_letters(
    State(service): State<Arc<Service>>,
    caller: Caller,
    PathId(id): PathId,
    paging: Paging,
) -> Result<Response, Problem> {
    let webhook = visible(&service, &caller, &id)?;
    let (after, limit) = (after(&paging)?, paging.limit + 1);
    let position = service.index.position();
    let id = webhook.id;
    let found =
        blocking(&service, move |service| service.webhooks.deliveries.dead_letters(id, after, limit)).await?;
    let total = service.webhooks.deliveries.with_existing(id, |queue| queue.letter_count()).unwrap_or(0);
    let id = |it: &(u64, DeadLetter)| MessageNumber(it.0).to_string();
    Reply::at(position).json(&paging.page(found, total as u64, id, dead_letter_view))
}

/// What is being delivered again.
#[derive(Serialize, ToSchema)]
struct Redelivering {
    /// How many messages wait now.
    pending: usize,
}

fn redelivering(service: &Service, webhook: &Webhook) -> Result<Response, Problem> {
    let pending = service.webhooks.deliveries.with_existing(webhook.id, |queue| queue.len()).unwrap_or(0);
    service.webhooks.wake();
    Reply::at(service.index.position()).json(&Redelivering { pending })
}

/// A webhook that the caller may see, and that messages are delivered to.
fn enabled(service: &Service, caller: &Caller, id: &str) -> Result<Arc<Webhook>, Problem> {
    let webhook = living(service, caller, id)?;
    if !webhook.is_enabled() {
        return Err(Problem::of(Code::WebhookDisabled));
    }
    Ok(webhook)
}

/// Delivers a message again that was given up: with the same id, and after what waits for the same key.
#[utoipa::path(post, path = "/v1/webhooks/{id}/dead-letters/{letter}/redeliver", operation_id = "redeliverDeadLetter", tag = "Webhooks", request_body = Option<NoFields>,
    params(("id" = String, Path, description = "the webhook's id"), ("letter" = String, Path, description = "the dead letter's id")),
    responses(
        (status = 200, body = Redelivering, description = "it waits to be sent"),
        (status = 404, body = ProblemBody, description = "`webhook_not_found`, `dead_letter_not_found`"),
        (status = 409, body = ProblemBody, description = "`webhook_disabled`"),
    ))]
async fn redeliver_dead_letter(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Path((id, letter)): Path<(String, String)>,
    Json { body, .. }: Json<NoFields>,
) -> Result<Response, Problem> {
    let webhook = enabled(&service, &caller, &id)?;
    body.check()?;
    let number: MessageNumber = letter.parse().map_err(|()| Problem::of(Code::DeadLetterNotFound))?;
    let (now, concerned) = (service.now(), Arc::clone(&webhook));
    let redeliver = move |service: &Service| service.webhooks.deliveries.redeliver(&concerned, number.0, now);
    if !blocking(&service, redeliver).await? {
        return Err(Problem::of(Code::DeadLetterNotFound));
    }
    redelivering(&service, &webhook)
}

/// From where on to deliver again.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = Redeliver)]
struct RedeliverBody {
    /// The position before the first event to be delivered again; 0 for all there ever were.
    #[schema(value_type = u64, required = true, example = 1200)]
    #[serde(default)]
    after: Field,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

/// Delivers all events after a position again, as far as the webhook is told of such, also those before its registration.
/// Receivers know repetitions by the header `webhook-id`.
#[utoipa::path(post, path = "/v1/webhooks/{id}/redeliver", operation_id = "redeliverEvents", tag = "Webhooks", request_body = RedeliverBody,
    params(("id" = String, Path, description = "the webhook's id")),
    responses(
        (status = 200, body = Redelivering, description = "the log is read again from there"),
        (status = 404, body = ProblemBody, description = "`webhook_not_found`"),
        (status = 409, body = ProblemBody, description = "`webhook_disabled`"),
        (status = 422, body = ProblemBody, description = "`invalid_request`"),
    ))]
async fn redeliver(
    State(service): State<Arc<Service>>,
    caller: Caller,
    PathId(id): PathId,
    Json { body, .. }: Json<RedeliverBody>,
) -> Result<Response, Problem> {
    let webhook = enabled(&service, &caller, &id)?;
    let mut checks = Checks::default();
    let after = checks.required("after", &body.after, number(u64::MAX));
    checks.unknown(&body.unknown);
    checks.finish()?;
    let after = Position::new(after.ok_or_else(|| Problem::of(Code::InvalidRequest))?);
    let concerned = Arc::clone(&webhook);
    blocking(&service, move |service| service.webhooks.deliveries.redeliver_after(&concerned, after)).await?;
    redelivering(&service, &webhook)
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
