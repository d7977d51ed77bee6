//! Webhooks: events pushed to receivers outside (Standard Webhooks 1.0).
//!
//! * [`dispatcher`]: a thread of its own, with a task for each webhook that is enabled; so nothing here delays a command or a
//!   verification, and no receiver delays another.
//! * `endpoint`: one webhook: reads on in the log, hands out what is due, and judges what became of it.
//! * [`content`]: what a message says, read when it is sent.
//! * [`sender`] and [`address_guard`]: sends it, and only to where it may go.
//! * [`secret`]: signs it. [`retry`]: when it is sent again.
//! * `expiry_notices`: tells that keys will expire soon.
//!
//! What waits, and for whom, is kept by [`keyledger_projections::beside_the_log::deliveries`].

pub(crate) mod address_guard;
pub(crate) mod content;
pub(crate) mod dispatcher;
mod endpoint;
mod expiry_notices;
pub(crate) mod retry;
pub(crate) mod secret;
pub(crate) mod sender;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ipnet::IpNet;
use keyledger_engine::domain::webhook::Webhook;
use keyledger_engine::value::id::WebhookId;
use keyledger_engine::value::position::Position;
use keyledger_projections::beside_the_log::deliveries::{self, Deliveries};
use keyledger_projections::verification::VerificationIndex;
use tokio::sync::{Semaphore, watch};

use crate::answer::problem::Problem;
use crate::service::Service;
use address_guard::AddressGuard;
use keyledger_engine::log::LogReader;
use keyledger_engine::storage::data_directory::DataDirectory;
use secret::SecretKey;
use sender::Sender;

/// Webhooks that there may be at a time.
pub(crate) const WEBHOOKS_MAX: usize = 1_000;
/// Webhooks that one organization may have at a time.
pub(crate) const WEBHOOKS_OF_ORGANIZATION_MAX: usize = 50;
/// Reads of the log at a time, for all webhooks together: callers' own come first.
const READS_MAX: usize = 4;
/// Tests that callers wait for at a time; one more is refused.
const TESTS_MAX: usize = 16;

/// How webhooks are served.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Whether messages may be sent without TLS.
    pub allow_http: bool,
    /// Networks that are not of the internet, and that messages may be sent to nevertheless.
    pub allowed_networks: Vec<IpNet>,
    /// How long to wait after each attempt that failed; one attempt more than there are waits.
    pub retry_delays: Vec<Duration>,
    /// A webhook to which nothing could be delivered for so long is disabled.
    pub disable_after: Duration,
    /// How long before their end webhooks are told of keys.
    pub expiry_notices: Vec<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            allow_http: false,
            allowed_networks: Vec::new(),
            retry_delays: retry::DELAYS.to_vec(),
            disable_after: 5 * DAY,
            expiry_notices: vec![30 * DAY, 7 * DAY, DAY],
        }
    }
}

/// Why webhooks cannot be served; one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The key that secrets are made from.
    #[error(transparent)]
    Key(#[from] secret::Error),
    /// The file of deliveries.
    #[error(transparent)]
    Deliveries(#[from] deliveries::Error),
    /// The log.
    #[error(transparent)]
    Log(#[from] keyledger_engine::log::Error),
}

/// Attempts since the start, by what became of them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Answered with a status of 200 to 299.
    pub delivered: AtomicU64,
    /// Anything else; the message waits for its next attempt.
    pub failed: AtomicU64,
    /// Anything else after the last attempt; the message is a dead letter.
    pub given_up: AtomicU64,
}

/// What waits just now, of all webhooks together.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Totals {
    /// Messages that wait or are being sent.
    pub pending: u64,
    /// Messages that were given up and are kept.
    pub dead_letters: u64,
    /// How many events the last of the enabled webhooks is behind the log.
    pub lag: u64,
}

/// What serving webhooks takes.
pub(crate) struct Webhooks {
    /// What is still to be delivered.
    pub deliveries: Deliveries,
    /// What secrets are made from.
    pub keys: SecretKey,
    /// Where messages may go.
    pub guard: AddressGuard,
    /// Sends messages.
    pub sender: Sender,
    /// What is counted.
    pub counters: Counters,
    options: Options,
    /// Raised when something was put into queues from outside.
    queued: watch::Sender<u64>,
    reads: Semaphore,
    /// Permits for tests.
    pub tests: Semaphore,
}

impl Webhooks {
    /// Opens the key and the file of deliveries. Blocks.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) fn open(
        data: &DataDirectory,
        options: &Options,
        reader: &dyn LogReader,
        index: &VerificationIndex,
    ) -> Result<Self, Error> {
        let (keys, made) = SecretKey::open(&data.webhook_key())?;
        let living = index.webhooks(None, usize::MAX).iter().filter(|it| it.deleted_at.is_none()).count();
        if made && living > 0 {
            tracing::error!(
                file = %data.webhook_key().display(), webhooks = living,
                "the key of webhooks' secrets was missing and was made anew, so that no receiver knows its secret any \
                 more: stop the service and bring the file back, or rotate the secret of each webhook"
            );
        }
        let deliveries = Deliveries::open(&data.deliveries(), reader.log_id(), reader.head()?)?;
        let guard = AddressGuard::new(options.allow_http, options.allowed_networks.clone());
        Ok(Self {
            deliveries,
            keys,
            sender: Sender::new(guard.clone()),
            guard,
            counters: Counters::default(),
            options: options.clone(),
            queued: watch::Sender::new(0),
            reads: Semaphore::new(READS_MAX),
            tests: Semaphore::new(TESTS_MAX),
        })
    }

    /// Has the dispatcher look at the queues.
    pub(crate) fn wake(&self) {
        self.queued.send_modify(|count| *count += 1);
    }

    /// What waits just now.
    #[must_use]
    pub(crate) fn totals(&self, index: &VerificationIndex, head: Position) -> Totals {
        let mut totals = Totals::default();
        for webhook in index.webhooks(None, usize::MAX) {
            self.deliveries.with_existing(webhook.id, |queue| {
                totals.pending += queue.len() as u64;
                totals.dead_letters += queue.letter_count() as u64;
                if webhook.is_enabled() {
                    totals.lag = totals.lag.max(head.get().saturating_sub(queue.cursor().get()));
                }
            });
        }
        totals
    }
}

/// A webhook that messages are delivered to.
fn enabled(service: &Service, id: WebhookId) -> Option<Arc<Webhook>> {
    service.index.webhook(id).filter(|webhook| webhook.is_enabled())
}

/// Reads from the log after callers have read.
async fn read<T: Send + 'static>(
    service: &Arc<Service>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let _permit = service.webhooks.reads.acquire().await.map_err(|error| Problem::internal(&error))?;
    service.blocking_when_free(work).await
}
