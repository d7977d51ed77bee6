//! The handle to the writer.

use std::sync::Arc;

use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot, watch};

use crate::ledger::clock::LogClock;
use crate::ledger::message::{Message, Submitted};
use crate::ledger::writer::{State, Writer};
use crate::ledger::{Committed, Counters, Error, Observer, QUEUE_LEN_MAX, Request};
use crate::log::{self, EventLog, LogReader};
use crate::value::position::Position;
use crate::value::time::{Clock, Timestamp};

/// A handle to the writer; cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    queue: mpsc::Sender<Message>,
    head: watch::Receiver<Position>,
    reader: Arc<dyn LogReader>,
    clock: Arc<LogClock>,
    counters: Arc<Counters>,
}

impl Ledger {
    /// Starts the writer over `log`. The observers must have applied everything up to the log's head. `rng`
    /// draws the ids of events.
    ///
    /// # Errors
    /// When the log's head cannot be read or the thread cannot be started.
    pub fn start(
        log: Box<dyn EventLog>,
        observers: Vec<Box<dyn Observer>>,
        clock: Arc<dyn Clock>,
        rng: StdRng,
    ) -> Result<(Self, Writer), log::Error> {
        let reader = log.reader();
        let head = reader.head()?;
        let clock = Arc::new(LogClock::new(clock));
        let before_last = Position::new(head.get().saturating_sub(1));
        if let Some(last) = reader.read(before_last, 1)?.last() {
            clock.appended(last);
        }
        let (head_sender, head) = watch::channel(head);
        let (queue, receiver) = mpsc::channel(QUEUE_LEN_MAX);
        let counters = Arc::new(Counters::default());
        let state = State::new(log, observers, Arc::clone(&clock), rng, head_sender, Arc::clone(&counters));
        let writer = Writer::spawn(state, queue.clone(), receiver)?;
        Ok((Self { queue, head, reader, clock, counters }, writer))
    }

    /// Executes a command and waits for its answer.
    ///
    /// # Errors
    /// See [`Error`]; every variant says whether something may have been appended.
    pub async fn execute(&self, request: Request) -> Result<Committed, Error> {
        self.submit(request)?.answer().await
    }

    /// Executes a command and blocks the calling thread until it is answered.
    ///
    /// # Errors
    /// As [`Ledger::execute`].
    pub fn execute_blocking(&self, request: Request) -> Result<Committed, Error> {
        self.submit(request)?.0.blocking_recv().unwrap_or(Err(Error::Stopped))
    }

    /// Enqueues a command. It runs even if the caller drops the returned [`Submitted`].
    ///
    /// # Errors
    /// [`Error::Overloaded`] and [`Error::Stopped`]: the command was not enqueued.
    pub fn submit(&self, request: Request) -> Result<Submitted, Error> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Message::Execute(Box::new(request), reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Error::Stopped,
        })?;
        Ok(Submitted(answer))
    }

    /// Enqueues an idle checkpoint of the log, unless commands wait. Returns whether it was enqueued.
    #[must_use]
    pub fn checkpoint_if_idle(&self) -> bool {
        self.queue_len() == 0 && self.queue.try_send(Message::Checkpoint(None)).is_ok()
    }

    /// Runs a [checkpoint](EventLog::checkpoint_journal) of the log after the commands that wait now, even if
    /// more commands follow. Blocks.
    ///
    /// # Errors
    /// [`Error::Stopped`]; [`Error::Log`] when the checkpoint failed, after which the log works nevertheless.
    pub fn checkpoint_blocking(&self) -> Result<(), Error> {
        let (reply, outcome) = oneshot::channel();
        self.queue.blocking_send(Message::Checkpoint(Some(reply))).map_err(|_| Error::Stopped)?;
        let outcome = outcome.blocking_recv().map_err(|_| Error::Stopped)?;
        outcome.map_err(|reason| log::Error::Unavailable(reason).into())
    }

    /// The time by which a command would be decided now: the clock's, but never before the last event's.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The position of the last record that all observers have applied.
    #[must_use]
    pub fn head(&self) -> Position {
        *self.head.borrow()
    }

    /// Follows [`Ledger::head`]; closes when the writer ends.
    #[must_use]
    pub fn watch_head(&self) -> watch::Receiver<Position> {
        self.head.clone()
    }

    /// Resolves when the writer has ended.
    pub async fn ended(&self) {
        self.queue.closed().await;
    }

    /// The log's reading end.
    #[must_use]
    pub fn reader(&self) -> Arc<dyn LogReader> {
        Arc::clone(&self.reader)
    }

    /// The writer's counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The number of messages in the queue, at most [`QUEUE_LEN_MAX`].
    #[must_use]
    pub fn queue_len(&self) -> usize {
        QUEUE_LEN_MAX - self.queue.capacity()
    }
}
