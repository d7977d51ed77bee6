//! Webhooks as answers show them.

use keyledger_engine::domain::webhook::Webhook;
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::beside_the_log::deliveries::Queue;
use serde::Serialize;
use utoipa::ToSchema;

use crate::service::Service;

/// A webhook. It never has its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(super) struct WebhookView {
    /// `wh_<ULID>`.
    id: String,
    /// The organization whose events it receives. `null` if it receives all events.
    organization_id: Option<String>,
    /// The address that receives the messages.
    #[schema(example = "https://example.com/keyledger")]
    url: String,
    /// The types of events it receives. An empty list means all types.
    #[schema(example = json!(["KeyRevoked", "KeyExpiringSoon"]))]
    event_types: Vec<String>,
    /// `enabled`, `disabled` or `deleted`.
    #[schema(example = "enabled")]
    status: &'static str,
    /// Why it is disabled: `requested`; `gone`: the receiver answered 410; `failing`: every delivery failed
    /// for days.
    disabled_reason: Option<&'static str>,
    /// The log position up to which its events have been queued.
    position: Option<u64>,
    /// The number of messages that wait or are being sent.
    pending: usize,
    /// The number of messages whose delivery was given up.
    dead_letters: usize,
    /// Since when no delivery has succeeded, if the last attempt failed.
    #[schema(value_type = Option<String>, format = DateTime)]
    failing_since: Option<Timestamp>,
    /// Until when messages are also signed with an earlier secret.
    #[schema(value_type = Option<String>, format = DateTime)]
    previous_secret_valid_until: Option<Timestamp>,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The id of the actor that registered it.
    created_by: String,
    /// When it was deleted.
    #[schema(value_type = Option<String>, format = DateTime)]
    deleted_at: Option<Timestamp>,
    /// The number of its events; the `ETag`.
    version: u32,
}

impl WebhookView {
    /// Returns a webhook with the state of its deliveries.
    pub(super) fn of(service: &Service, webhook: &Webhook) -> Self {
        let now = service.now();
        let deliveries = &service.webhooks.deliveries;
        let shown = deliveries.with_existing(webhook.id, |queue| Self::with_queue(webhook, Some(queue), now));
        shown.unwrap_or_else(|| Self::with_queue(webhook, None, now))
    }

    fn with_queue(webhook: &Webhook, queue: Option<&Queue>, now: Timestamp) -> Self {
        let status = match (webhook.deleted_at, webhook.disabled) {
            (Some(_), _) => "deleted",
            (None, Some(_)) => "disabled",
            (None, None) => "enabled",
        };
        let previous_secrets = webhook.previous_secrets.iter();
        Self {
            id: webhook.id.to_string(),
            organization_id: webhook.organization_id.as_ref().map(ToString::to_string),
            url: webhook.url.as_str().into(),
            event_types: webhook.event_types.iter().map(|it| it.as_str().into()).collect(),
            status,
            disabled_reason: webhook.disabled.map(|reason| reason.as_str()),
            position: queue.map(|queue| queue.cursor().get()),
            pending: queue.map_or(0, Queue::len),
            dead_letters: queue.map_or(0, Queue::letter_count),
            failing_since: queue.and_then(Queue::failing_since),
            previous_secret_valid_until: previous_secrets
                .map(|previous| previous.valid_until)
                .max()
                .filter(|end| now < *end),
            created_at: webhook.created_at,
            created_by: webhook.created_by.to_string(),
            deleted_at: webhook.deleted_at,
            version: webhook.version.get(),
        }
    }
}
