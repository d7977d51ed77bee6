//! Lookups by the webhook thread: webhooks in the index, and reads of the log.

use std::sync::Arc;

use keyledger_engine::domain::webhook::Webhook;
use keyledger_engine::value::id::WebhookId;

use crate::answer::problem::Problem;
use crate::service::Service;

/// Returns a webhook if it is enabled.
pub(super) fn enabled(service: &Service, id: WebhookId) -> Option<Arc<Webhook>> {
    service.index.webhook(id).filter(|webhook| webhook.is_enabled())
}

/// Reads from the log with lower priority than requests.
pub(super) async fn read<T: Send + 'static>(
    service: &Arc<Service>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let _permit = service.webhooks.reads.acquire().await.map_err(|error| Problem::internal(&error))?;
    service.blocking_when_free(work).await
}
