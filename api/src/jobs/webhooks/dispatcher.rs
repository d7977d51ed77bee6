//! The webhook thread: a task for each enabled webhook, one that saves their progress, and one that creates
//! messages about keys that expire soon.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use keyledger_engine::value::id::WebhookId;
use tokio::task::JoinSet;

use super::{endpoint, expiry_notices};
use crate::service::Service;

/// How often progress is saved. After a crash, deliveries of the last interval are repeated.
const SAVE_INTERVAL: Duration = Duration::from_millis(500);
/// How long to wait after a task panicked.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Concurrent lookups of names, of which there are 64 at most, and file reads, each on a blocking thread.
const BLOCKING_THREADS_MAX: usize = 128;

/// Starts the thread, which ends when the service stops.
///
/// # Errors
/// When no thread can be started.
pub(crate) fn start(service: Arc<Service>) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("webhooks-io")
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()?;
    thread::Builder::new().name("webhooks".into()).spawn(move || {
        runtime.block_on(run(&service));
        // A name resolution in progress cannot be cancelled.
        runtime.shutdown_background();
    })
}

async fn run(service: &Arc<Service>) {
    let saving = tokio::spawn(save(Arc::clone(service)));
    let notifying = tokio::spawn(expiry_notices::run(Arc::clone(service)));
    serve_all(service).await;
    let _ = tokio::join!(saving, notifying);
    save_now(service).await;
}

async fn serve_all(service: &Arc<Service>) {
    let mut changes = service.index.watch_webhooks();
    let mut endpoints = JoinSet::new();
    let (mut served, mut was_disabled) = (HashSet::new(), HashSet::new());
    while is_delivering(service) {
        changes.mark_unchanged();
        forget_deleted(service, &served);
        for webhook in service.index.webhooks(None, usize::MAX) {
            if !webhook.is_enabled() {
                was_disabled.insert(webhook.id);
            } else if !served.contains(&webhook.id) {
                if was_disabled.remove(&webhook.id) {
                    let now = service.now();
                    service.webhooks.deliveries.with(&webhook, |queue| queue.restart(now));
                }
                served.insert(webhook.id);
                endpoints.spawn(endpoint::run(Arc::clone(service), webhook.id));
            }
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            Some(ended) = endpoints.join_next() => match ended {
                Ok(id) => drop(served.remove(&id)),
                Err(error) => {
                    // Which task panicked is unknown, so all are restarted.
                    tracing::error!(%error, "a webhook task panicked; restarting all webhook tasks");
                    endpoints.shutdown().await;
                    served.clear();
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            },
            () = service.stopped() => {}
        }
    }
    while endpoints.join_next().await.is_some() {}
}

/// Whether messages are delivered: no receiver is notified of what a log says that is not served.
pub(super) fn is_delivering(service: &Service) -> bool {
    !service.is_stopping() && !service.inconsistency.is_refused()
}

fn forget_deleted(service: &Service, served: &HashSet<WebhookId>) {
    for id in service.webhooks.deliveries.webhooks() {
        let is_there = service.index.webhook(id).is_some_and(|webhook| webhook.deleted_at.is_none());
        if !is_there && !served.contains(&id) {
            service.webhooks.deliveries.forget(id);
        }
    }
}

async fn save(service: Arc<Service>) {
    while !service.is_stopping() {
        tokio::select! {
            () = tokio::time::sleep(SAVE_INTERVAL) => save_now(&service).await,
            () = service.stopped() => {}
        }
    }
}

async fn save_now(service: &Arc<Service>) {
    let saving = Arc::clone(service);
    let saved = tokio::task::spawn_blocking(move || saving.webhooks.deliveries.save()).await;
    if let Ok(Err(error)) = saved {
        tracing::warn!(%error, "could not save webhook deliveries; retrying");
    }
}
