//! One enabled webhook: reads the log while its queue has room, starts the deliveries that are due, and
//! handles their outcomes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keyledger_engine::domain::webhook::{DisableReason, Webhook, WebhookCommand};
use keyledger_engine::ledger::{self, Command, Request};
use keyledger_engine::value::actor::Actor;
use keyledger_engine::value::id::WebhookId;
use keyledger_engine::value::position::Position;
use keyledger_projections::audit_trail::AuditQuery;
use keyledger_projections::beside_the_log::deliveries::{Failure, Lane, Message};
use rand::rngs::StdRng;
use rand::{SeedableRng, rng};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::content::{self, Unreadable};
use super::dispatcher::is_delivering;
use super::lookup::{enabled, read};
use super::retry;
use super::sender::Refused;
use crate::service::Service;

/// Concurrent deliveries to one receiver.
const IN_FLIGHT_MAX: usize = 8;
/// Concurrent deliveries to a receiver that does not answer.
const IN_FLIGHT_OF_SILENT: usize = 1;
/// Events read at a time.
const BATCH_LEN: usize = 256;
/// How long to wait after the log could not be read.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest sleep, as the machine's clock may be changed.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// The shortest time between two reads of the log, however fast it grows.
const READ_INTERVAL: Duration = Duration::from_millis(20);
/// How long running deliveries may take when the service stops.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// 410 Gone: the receiver wants no more messages.
const GONE: Failure = Failure::Status(410);

/// The outcome of an attempt.
enum Outcome {
    Delivered,
    /// The message no longer applies.
    Dropped,
    /// The message could not be read, which does not count as a failure of the receiver.
    NotSent,
    Refused(Refused),
}

/// A finished attempt.
struct Attempt {
    number: u64,
    /// The webhook at the time of the attempt.
    webhook: Arc<Webhook>,
    outcome: Outcome,
}

/// Delivers a webhook's messages until it is disabled or deleted, or the service stops. Returns its id.
pub(super) async fn run(service: Arc<Service>, id: WebhookId) -> WebhookId {
    let mut endpoint = Endpoint {
        id,
        sending: JoinSet::new(),
        numbers: HashSet::new(),
        in_flight_max: IN_FLIGHT_MAX,
        rng: StdRng::from_rng(&mut rng()),
        service,
    };
    endpoint.serve().await;
    if endpoint.service.is_stopping() {
        let finish = async {
            while let Some(finished) = endpoint.sending.join_next().await {
                endpoint.handle(finished).await;
            }
        };
        // Unfinished deliveries are repeated after the next start.
        let _ = tokio::time::timeout(STOP_GRACE, finish).await;
    }
    endpoint.sending.shutdown().await;
    endpoint.return_unfinished();
    id
}

struct Endpoint {
    service: Arc<Service>,
    id: WebhookId,
    sending: JoinSet<Attempt>,
    /// The numbers of the messages in delivery.
    numbers: HashSet<u64>,
    in_flight_max: usize,
    rng: StdRng,
}

impl Endpoint {
    async fn serve(&mut self) {
        let service = Arc::clone(&self.service);
        let mut head = service.audit_trail_handle.watch();
        let mut changes = service.index.watch_webhooks();
        let mut queued = service.webhooks.queued.subscribe();
        while is_delivering(&service) {
            head.mark_unchanged();
            changes.mark_unchanged();
            queued.mark_unchanged();
            let Some(webhook) = enabled(&service, self.id) else { return };
            let (more, pause) = match self.fill(&webhook).await {
                Ok(more) => (more, SLEEP_MAX),
                Err(Unreadable) => (false, RETRY_AFTER),
            };
            self.start_due(&webhook);
            let pause = self.time_to_next_due(&webhook).min(pause);
            // Handled outside of `select`, which would cancel it when another branch completes.
            let finished = tokio::select! {
                finished = self.sending.join_next(), if !self.sending.is_empty() => finished,
                () = std::future::ready(()), if more => None,
                () = grown(&mut head) => None,
                _ = changes.changed() => None,
                _ = queued.changed() => None,
                () = tokio::time::sleep(pause) => None,
                () = service.stopped() => return,
            };
            if let Some(finished) = finished {
                self.handle(finished).await;
            }
        }
    }

    /// Reads events from the log into the queue. Returns whether there are more events and the queue has
    /// room.
    async fn fill(&self, webhook: &Webhook) -> Result<bool, Unreadable> {
        let deliveries = &self.service.webhooks.deliveries;
        let (cursor, room) = deliveries.with(webhook, |queue| (queue.cursor(), queue.room()));
        let trail = &self.service.audit_trail_handle;
        if room == 0 || !trail.is_ready() || trail.position() <= cursor {
            return Ok(false);
        }
        let query = AuditQuery {
            after: cursor,
            limit: room.min(BATCH_LEN),
            organization_id: webhook.organization_id.clone(),
            ..AuditQuery::default()
        };
        let trail = self.service.audit_trail.clone();
        let page = read(&self.service, move || trail.query(&query)).await.map_err(|_| Unreadable)?;
        let page = page.map_err(|error| {
            tracing::warn!(%error, "could not read events for a webhook; retrying");
            Unreadable
        })?;
        let now = self.service.now();
        deliveries.with(webhook, |queue| {
            // A caller may have requested redelivery from an earlier position meanwhile.
            if queue.cursor() != cursor {
                return;
            }
            for record in &page.records {
                let event_type = record.event.event_type().as_str();
                if webhook.wants(event_type) {
                    let (position, id) = (record.position, record.id);
                    let message = Message::Event { position, id, event_type: event_type.into() };
                    queue.push(message, Lane::of(&record.stream), now);
                }
            }
            queue.advance(page.next.unwrap_or_else(|| page.position.max(cursor)));
        });
        Ok(page.next.is_some() && deliveries.with(webhook, |queue| queue.room()) > 0)
    }

    fn start_due(&mut self, webhook: &Arc<Webhook>) {
        while self.sending.len() < self.in_flight_max {
            let now = self.service.now();
            let due = self.service.webhooks.deliveries.with(webhook, |queue| queue.start(now));
            let Some((number, message)) = due else { return };
            self.numbers.insert(number);
            let (service, webhook) = (Arc::clone(&self.service), Arc::clone(webhook));
            self.sending.spawn(async move {
                let outcome = attempt(&service, &webhook, &message).await;
                Attempt { number, webhook, outcome }
            });
        }
    }

    fn time_to_next_due(&self, webhook: &Webhook) -> Duration {
        let due = self.service.webhooks.deliveries.with(webhook, |queue| queue.next_due());
        match due {
            Some(due) if self.sending.len() < self.in_flight_max => {
                let millis = due.millis().saturating_sub(self.service.now().millis());
                Duration::from_millis(u64::try_from(millis).unwrap_or(0)).min(SLEEP_MAX)
            }
            _ => SLEEP_MAX,
        }
    }

    /// Records the outcome of an attempt, and disables a webhook that keeps failing.
    async fn handle(&mut self, finished: Result<Attempt, JoinError>) {
        let Attempt { number, webhook, outcome } = match finished {
            Ok(attempt) => attempt,
            Err(error) => {
                tracing::error!(%error, webhook = %self.id, "a delivery attempt panicked");
                tokio::time::sleep(RETRY_AFTER).await;
                if self.sending.is_empty() {
                    self.return_unfinished();
                }
                return;
            }
        };
        self.numbers.remove(&number);
        let webhook = webhook.as_ref();
        let service = Arc::clone(&self.service);
        let (deliveries, counters) = (&service.webhooks.deliveries, &service.webhooks.counters);
        let refused = match outcome {
            Outcome::Delivered => {
                counters.delivered.fetch_add(1, Ordering::Relaxed);
                self.in_flight_max = IN_FLIGHT_MAX;
                return deliveries.with(webhook, |queue| queue.delivered(number));
            }
            Outcome::Dropped => return deliveries.with(webhook, |queue| queue.dropped(number)),
            Outcome::NotSent => return deliveries.with(webhook, |queue| queue.returned(number)),
            Outcome::Refused(refused) => refused,
        };
        let Refused { failure, retry_after } = refused;
        let (now, options) = (service.now(), &service.webhooks.options);
        let failing_since = deliveries.with(webhook, |queue| {
            let attempt = queue.attempts(number);
            let wait = retry::wait(&options.retry_delays, attempt, retry_after, &mut self.rng);
            let retry_at = wait
                .map(|wait| now.saturating_add_millis(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)));
            let counter = if retry_at.is_some() { &counters.failed } else { &counters.given_up };
            counter.fetch_add(1, Ordering::Relaxed);
            queue.failed(number, failure, now, retry_at);
            queue.failing_since()
        });
        if !matches!(failure, Failure::Status(_)) {
            self.in_flight_max = IN_FLIGHT_OF_SILENT;
        }
        tracing::debug!(webhook = %self.id, ?failure, "message not delivered");
        let failing_for = failing_since.map_or(0, |since| now.millis().saturating_sub(since.millis()));
        let is_hopeless = u128::try_from(failing_for).is_ok_and(|it| it >= options.disable_after.as_millis());
        if failure == GONE {
            disable(&service, webhook, DisableReason::Gone).await;
        } else if is_hopeless {
            disable(&service, webhook, DisableReason::Failing).await;
        }
    }

    fn return_unfinished(&mut self) {
        if let Some(webhook) = self.service.index.webhook(self.id) {
            self.service.webhooks.deliveries.with(&webhook, |queue| {
                self.numbers.drain().for_each(|number| queue.returned(number));
            });
        }
    }
}

/// Waits until the log has grown, and a moment longer, to read more events at once.
async fn grown(head: &mut watch::Receiver<Position>) {
    let pause = if head.changed().await.is_ok() { READ_INTERVAL } else { RETRY_AFTER };
    tokio::time::sleep(pause).await;
}

async fn attempt(service: &Arc<Service>, webhook: &Webhook, message: &Message) -> Outcome {
    let body = match content::render(service, webhook, message).await {
        Ok(Some(body)) => body,
        Ok(None) => return Outcome::Dropped,
        Err(Unreadable) => {
            tokio::time::sleep(RETRY_AFTER).await;
            return Outcome::NotSent;
        }
    };
    let (webhooks, now) = (&service.webhooks, service.now());
    match webhooks.sender.send(webhook, &webhooks.keys, &message.id(), body, now).await {
        Ok(_) => Outcome::Delivered,
        Err(refused) => Outcome::Refused(refused),
    }
}

/// Disables a webhook unless it was changed since the attempt.
async fn disable(service: &Service, webhook: &Webhook, reason: DisableReason) {
    let command = Command::Webhook(webhook.id, WebhookCommand::Disable(reason));
    let request =
        Request { expected_version: Some(webhook.version), ..Request::new(command, Actor::system()) };
    match service.ledger.execute(request).await {
        Ok(_) => tracing::warn!(webhook = %webhook.id, %reason, "disabled the webhook"),
        // It was changed meanwhile, so it may work now.
        Err(ledger::Error::Rejected(_)) => {}
        Err(error) => {
            tracing::warn!(%error, webhook = %webhook.id, "could not disable the webhook")
        }
    }
}
