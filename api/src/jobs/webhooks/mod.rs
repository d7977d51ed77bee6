//! Webhooks: events delivered to external receivers (Standard Webhooks 1.0).
//!
//! * [`dispatcher`]: one thread with a task for each enabled webhook, so that delivery delays no command and
//!   no verification, and no receiver delays another.
//! * `endpoint`: one webhook: reads the log, starts the deliveries that are due, and handles their outcomes.
//! * [`content`]: the body of a message, read from the log when it is sent.
//! * [`sender`] and [`address_guard`]: deliver a message, to allowed addresses only.
//! * [`name_lookups`]: bounded lookups of receivers' names.
//! * [`secret`]: the keys that sign messages. [`retry`]: the delays between attempts.
//! * `expiry_notices`: messages about keys that expire soon.
//!
//! [`keyledger_projections::beside_the_log::deliveries`] stores the queues.

pub(crate) mod address_guard;
pub(crate) mod content;
pub(crate) mod dispatcher;
mod endpoint;
mod expiry_notices;
mod lookup;
pub(crate) mod name_lookups;
pub(crate) mod retry;
pub(crate) mod secret;
pub(crate) mod sender;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ipnet::IpNet;
use keyledger_engine::value::position::Position;
use keyledger_projections::beside_the_log::deliveries::{self, Deliveries};
use keyledger_projections::verification::VerificationIndex;
use tokio::sync::{Semaphore, watch};

use address_guard::AddressGuard;
use keyledger_engine::kek::Kek;
use keyledger_engine::kek::key_file::KeyFile;
use keyledger_engine::log::LogReader;
use keyledger_engine::storage::data_directory::{DataDirectory, WEBHOOK_KEY};
use secret::SecretKey;
use sender::Sender;

/// The maximum number of webhooks.
pub(crate) const WEBHOOKS_MAX: usize = 1_000;
/// Concurrent reads of the log for all webhooks together. Few, so that requests come first.
const READS_MAX: usize = 4;
/// Concurrent test deliveries. Further ones are refused.
const TESTS_MAX: usize = 16;

/// How webhooks are delivered.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Whether messages may be delivered without TLS.
    pub allow_http: bool,
    /// Internal networks to which messages may be delivered.
    pub allowed_networks: Vec<IpNet>,
    /// The delay after each failed attempt. A message gets one attempt more than there are delays.
    pub retry_delays: Vec<Duration>,
    /// A webhook is disabled when every delivery to it has failed for this long.
    pub disable_after: Duration,
    /// How long before a key's expiry webhooks are notified.
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

/// Why webhooks cannot be delivered: one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Key(#[from] secret::Error),
    #[error(transparent)]
    Deliveries(#[from] deliveries::Error),
    #[error(transparent)]
    Log(#[from] keyledger_engine::log::Error),
}

/// Delivery attempts since the start, by outcome.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Attempts that were answered with a status of 200 to 299.
    pub delivered: AtomicU64,
    /// Failed attempts after which the message waits for the next one.
    pub failed: AtomicU64,
    /// Failed last attempts, after which the message is a dead letter.
    pub given_up: AtomicU64,
}

/// The current totals of all webhooks.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Totals {
    /// Messages that wait or are being delivered.
    pub pending: u64,
    /// Messages that could not be delivered and are kept.
    pub dead_letters: u64,
    /// How many events the slowest enabled webhook is behind the log.
    pub lag: u64,
}

/// The state of webhook delivery.
pub(crate) struct Webhooks {
    /// The queues of pending messages.
    pub deliveries: Deliveries,
    /// The key from which webhook secrets are derived.
    pub keys: SecretKey,
    /// The addresses to which messages may be delivered.
    pub guard: AddressGuard,
    pub sender: Sender,
    pub counters: Counters,
    options: Options,
    /// Incremented when a message is queued outside the dispatcher.
    queued: watch::Sender<u64>,
    /// Permits for reads of the log.
    reads: Semaphore,
    /// Permits for test deliveries.
    pub tests: Semaphore,
}

impl Webhooks {
    /// Opens the key and the file of deliveries. Blocks.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) fn open(
        data: &DataDirectory,
        kek: Option<Arc<Kek>>,
        options: &Options,
        reader: &dyn LogReader,
        index: &VerificationIndex,
    ) -> Result<Self, Error> {
        let file = KeyFile::new(data.webhook_key(), WEBHOOK_KEY, kek);
        let (keys, made) = SecretKey::open(&file)?;
        let living = index.webhooks(None, usize::MAX).iter().filter(|it| it.deleted_at.is_none()).count();
        if made && living > 0 {
            tracing::error!(
                file = %data.webhook_key().display(), webhooks = living,
                "the key of webhook secrets was missing, and a new one was created: receivers no longer know \
                 their secrets; stop the service and restore the file, or rotate the secret of each webhook"
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

    /// Wakes the dispatcher to check the queues.
    pub(crate) fn wake(&self) {
        self.queued.send_modify(|count| *count += 1);
    }

    /// Returns the current totals; `head` is the log's position.
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
