//! Deliveries: pending messages to webhooks, and dead letters.
//!
//! This is not a projection: the log does not record deliveries, so a replay cannot restore them. They have
//! their own file in the data directory. If the file is lost, webhooks receive only events from then on.
//!
//! Each webhook has a bounded [`Queue`] in memory. Its changes are stored a moment later
//! ([`Deliveries::save`]). A crash repeats the deliveries of that moment and loses none; a clean stop repeats
//! none.

mod file;
mod message;
mod queue;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use keyledger_engine::domain::webhook::Webhook;
use keyledger_engine::log::LogId;
use keyledger_engine::storage::redb_file;
use keyledger_engine::value::id::{KeyId, WebhookId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;

use file::{Batch, DeliveriesFile};

pub use message::{DeadLetter, Failure, Lane, Message, Pending};
pub use queue::{PENDING_LEN_MAX, Queue};

/// Watermarks are stored after this long even if no notice was sent.
const WATERMARK_AGE_MAX_MILLIS: u64 = 60_000;
/// Dead letters read at a time.
const LETTERS_AT_A_TIME: usize = 1_000;

/// For each notice period in milliseconds, the last key, in order of expiry, that webhooks were notified of.
pub type Watermarks = BTreeMap<i64, (Timestamp, KeyId)>;

/// An error of the file of deliveries.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has the file open.
    #[error("{file}: in use by another process; stop that process first")]
    InUse {
        /// Path of the file.
        file: String,
    },
    /// The file cannot be read or written.
    #[error("{file}: {reason}; check its owner, its permissions and the disk")]
    Unavailable {
        /// Path of the file.
        file: String,
        /// Message of the storage layer.
        reason: String,
    },
    /// The file's contents are damaged, or belong to another log.
    #[error("{file}: {reason}; move it away; webhooks then receive new events only")]
    Damaged {
        /// Path of the file.
        file: String,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    fn of(path: &Path, failure: impl Into<redb_file::Failure>) -> Self {
        let (file, failure) = (path.display().to_string(), failure.into());
        let reason = failure.reason();
        match failure {
            redb_file::Failure::InUse => Self::InUse { file },
            failure if failure.is_damage() => Self::Damaged { file, reason },
            _ => Self::Unavailable { file, reason },
        }
    }
}

/// See the [module](self). All methods take `&self`; share it as an `Arc`.
pub struct Deliveries {
    /// Locked before `state`.
    file: Mutex<DeliveriesFile>,
    state: Mutex<State>,
    kept_from: Position,
}

#[derive(Default)]
struct State {
    queues: HashMap<WebhookId, Queue>,
    forgotten: Vec<WebhookId>,
    watermarks: Watermarks,
    watermarks_changed: bool,
    watermarks_changed_at: Timestamp,
}

impl Deliveries {
    /// Opens the file, or creates it. `head` is the head of the log. A queue that is ahead of it, because the
    /// log was replaced by an older copy, continues from there. Blocks.
    ///
    /// # Errors
    /// When the file is in use or cannot be read or written. A damaged file is set aside instead.
    pub fn open(path: &Path, log_id: LogId, head: Position) -> Result<Self, Error> {
        let opened = DeliveriesFile::open(path, log_id, head)?;
        let mut queues = opened.queues;
        for queue in queues.values_mut() {
            let cursor = queue.cursor().min(head);
            queue.advance(cursor);
        }
        let state = State { queues, watermarks: opened.watermarks, ..State::default() };
        let (file, kept_from) = (Mutex::new(opened.file), opened.kept_from);
        Ok(Self { file, state: Mutex::new(state), kept_from })
    }

    /// Calls `work` with the queue of a webhook. A new queue starts after the webhook's registration.
    pub fn with<R>(&self, webhook: &Webhook, work: impl FnOnce(&mut Queue) -> R) -> R {
        let begin = webhook.registered_at.max(self.kept_from);
        work(self.state().queues.entry(webhook.id).or_insert_with(|| Queue::new(begin)))
    }

    /// Calls `work` with the queue of a webhook, if there is one.
    pub fn with_existing<R>(&self, id: WebhookId, work: impl FnOnce(&Queue) -> R) -> Option<R> {
        self.state().queues.get(&id).map(work)
    }

    /// Removes the queue of a webhook with everything in it.
    pub fn forget(&self, id: WebhookId) {
        let mut state = self.state();
        if state.queues.remove(&id).is_some() {
            state.forgotten.push(id);
        }
    }

    /// Ids of the webhooks that have a queue.
    #[must_use]
    pub fn webhooks(&self) -> Vec<WebhookId> {
        self.state().queues.keys().copied().collect()
    }

    /// How far expiry notices have been sent.
    #[must_use]
    pub fn watermarks(&self) -> Watermarks {
        self.state().watermarks.clone()
    }

    /// Queues notices and sets how far they have been sent. Both are stored together.
    pub fn notify(
        &self,
        notices: impl IntoIterator<Item = (WebhookId, Message, Lane)>,
        watermarks: Watermarks,
        now: Timestamp,
    ) {
        let mut state = self.state();
        let mut is_due = false;
        for (id, message, lane) in notices {
            is_due = true;
            if let Some(queue) = state.queues.get_mut(&id) {
                queue.push(message, lane, now);
            }
        }
        is_due |= !state.watermarks.keys().eq(watermarks.keys());
        is_due |= now.millis().abs_diff(state.watermarks_changed_at.millis()) >= WATERMARK_AGE_MAX_MILLIS;
        if is_due {
            state.watermarks_changed = true;
            state.watermarks_changed_at = now;
        }
        state.watermarks = watermarks;
    }

    /// Stores the changes since the last call. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written. The changes stay in memory and are stored by the next call.
    pub fn save(&self) -> Result<(), Error> {
        self.save_to(&mut self.file())
    }

    fn save_to(&self, file: &mut DeliveriesFile) -> Result<(), Error> {
        let batch = {
            let mut state = self.state();
            let mut batch = Batch { forgotten: std::mem::take(&mut state.forgotten), ..Batch::default() };
            for (id, queue) in &mut state.queues {
                let changes = queue.take_changes();
                if !changes.is_empty() {
                    batch.queues.push((*id, changes));
                }
            }
            if std::mem::take(&mut state.watermarks_changed) {
                batch.watermarks = Some(state.watermarks.clone());
            }
            batch
        };
        if batch.is_empty() {
            return Ok(());
        }
        let stored = file.store(&batch);
        if stored.is_err() {
            let mut state = self.state();
            state.watermarks_changed |= batch.watermarks.is_some();
            state.forgotten.extend(batch.forgotten);
            for (id, changes) in batch.queues {
                if let Some(queue) = state.queues.get_mut(&id) {
                    queue.put_back(changes);
                }
            }
        }
        stored
    }

    /// Returns at most `limit` dead letters with numbers greater than `after`. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written or read.
    pub fn dead_letters(
        &self,
        id: WebhookId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, DeadLetter)>, Error> {
        let mut file = self.file();
        self.save_to(&mut file)?;
        file.dead_letters(id, after, limit)
    }

    /// Queues a dead letter again. Returns `false` if there is none with this number. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written or read.
    pub fn redeliver(&self, webhook: &Webhook, number: u64, now: Timestamp) -> Result<bool, Error> {
        let mut file = self.file();
        self.save_to(&mut file)?;
        let Some(before) = number.checked_sub(1) else { return Ok(false) };
        let found = file.dead_letters(webhook.id, before, 1)?.pop().filter(|found| found.0 == number);
        let Some((_, letter)) = found else { return Ok(false) };
        self.with(webhook, |queue| queue.requeue(number, letter, now));
        self.save_to(&mut file)?;
        Ok(true)
    }

    /// Delivers the log from `after` on again to a webhook. Dead letters that are delivered again are
    /// removed. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written or read.
    pub fn redeliver_after(&self, webhook: &Webhook, after: Position) -> Result<(), Error> {
        let mut file = self.file();
        self.save_to(&mut file)?;
        let mut last = 0;
        loop {
            let letters = file.dead_letters(webhook.id, last, LETTERS_AT_A_TIME)?;
            let Some((number, _)) = letters.last() else { break };
            last = *number;
            self.with(webhook, |queue| {
                let cursor = queue.cursor();
                for (number, letter) in &letters {
                    if letter.message.position().is_some_and(|it| it > after && it <= cursor) {
                        queue.forget_letter(*number);
                    }
                }
            });
        }
        self.with(webhook, |queue| queue.rewind(after));
        self.save_to(&mut file)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> MutexGuard<'_, DeliveriesFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
