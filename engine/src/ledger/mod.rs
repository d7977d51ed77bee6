//! The ledger: the one place where commands become events.
//!
//! [`Ledger::start`] gives the log to a thread of its own and hands out a cheap handle. The thread takes whatever
//! commands are waiting (no timer: the commit under way is the window in which the next group gathers), decides them one
//! by one, appends them in one durable commit, shows the new records to its [`Observer`]s, and only then answers. So
//! whoever has an answer can rely on every observer knowing of it: a verification that starts after a revocation was
//! answered sees the revocation.

mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread;

use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot, watch};

pub use crate::domain::aggregate::{Aggregate, Command};
pub use crate::domain::key::UserOf;

use crate::domain::record::Record;
use crate::domain::rejection::Rejection;
use crate::log::{self, CommandKey, EventLog, LogReader};
use crate::value::actor::Actor;
use crate::value::id::EventId;
use crate::value::position::{Position, Version};
use crate::value::subject::Subject;
use crate::value::time::{Clock, Timestamp};

/// At most this many commands wait; one more is refused with [`Error::Overloaded`].
pub const QUEUE_LEN_MAX: usize = 4_096;
/// At most this many commands share a commit.
pub const GROUP_LEN_MAX: usize = 1_024;

/// A command with all that its events will say of where it came from.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is asked.
    pub command: Command,
    /// Who asks.
    pub actor: Actor,
    /// The request that carries the command.
    pub request_id: Option<Box<str>>,
    /// The event that led to it, when Keyledger itself asks.
    pub causation: Option<EventId>,
    /// Names the command, so that repeating it does nothing.
    pub command_key: Option<CommandKey>,
    /// The version that the aggregate must have.
    pub expected_version: Option<Version>,
}

impl Request {
    /// A request with nothing but its command and its actor.
    #[must_use]
    pub const fn new(command: Command, actor: Actor) -> Self {
        Self { command, actor, request_id: None, causation: None, command_key: None, expected_version: None }
    }
}

/// What a command led to.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The aggregate after it; for a repeated command, as it was after the first time.
    pub aggregate: Aggregate,
    /// The position of its last event; the head of the log if nothing changed.
    pub position: Position,
    /// The time of its last event; when it was decided if nothing changed.
    pub time: Timestamp,
    /// Whether the command had taken place before and was not repeated.
    pub replayed: bool,
}

/// Why a command did not, or perhaps did not, take place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The rules refuse it. Nothing was appended.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Another command has the same name. Nothing was appended.
    #[error("another request was sent with the same idempotency key")]
    CommandReused,
    /// Too many commands wait. Nothing was appended.
    #[error("too many commands are waiting")]
    Overloaded,
    /// Other writers were faster again and again. Nothing was appended.
    #[error("the aggregate changed again and again while the command was decided")]
    Contended,
    /// It may have taken place or not; repeating it under the same name tells.
    #[error("it is not known whether the command took place: {0}")]
    OutcomeUnknown(String),
    /// The log does not work. Nothing was appended.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The ledger has stopped. Nothing was appended, unless the ledger died while it worked on the command.
    #[error("the ledger has stopped")]
    Stopped,
}

/// Is shown every record, in order, after it is durable and before its command is answered.
pub trait Observer: Send {
    /// Takes note of records. Must not fail: what cannot be taken in must show itself in another way.
    fn committed(&mut self, records: &[Record]);

    /// Forgets the personal text of a subject whose keys were destroyed, as if it had been replayed from the log anew. Comes
    /// before the records that tell of the erasure.
    fn erased(&mut self, _subject: &Subject) {}

    /// How many active keys a user has at `now`, as of the last record taken note of; none from an observer that does not
    /// count them. It is asked for organizations only whose policy bounds how many there may be.
    fn keys_of_user(&self, _user: &UserOf, _now: Timestamp) -> Option<u32> {
        None
    }
}

/// Counters of the writer since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Commits.
    pub groups: AtomicU64,
    /// Events appended.
    pub events: AtomicU64,
    /// Commands refused by a rule.
    pub rejections: AtomicU64,
    /// Commits whose outcome was unknown.
    pub unknown_outcomes: AtomicU64,
    /// Nanoseconds spent in the log's append.
    pub append_nanos: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}

type Reply = oneshot::Sender<Result<Committed, Error>>;

/// Who is told whether the log has rested, or why not.
type Rested = oneshot::Sender<Result<(), String>>;

enum Message {
    Execute(Box<Request>, Reply),
    /// The log may rest; the sender is told when it has.
    Rest(Option<Rested>),
    Stop,
}

/// A command that waits for the writer, or is being carried out.
pub struct Submitted(oneshot::Receiver<Result<Committed, Error>>);

impl Submitted {
    /// Waits for its answer.
    ///
    /// # Errors
    /// As [`Ledger::execute`].
    pub async fn answer(self) -> Result<Committed, Error> {
        self.0.await.unwrap_or(Err(Error::Stopped))
    }
}

/// The time by which commands are decided: the clock's, but never before the last event's. When a clock is set back, what is
/// to last for a while from an event on must not have ended before the event.
struct LogClock {
    clock: Arc<dyn Clock>,
    /// In milliseconds; written by the writer alone.
    last_event: AtomicI64,
}

impl LogClock {
    fn now(&self) -> Timestamp {
        self.clock.now().max(Timestamp::from_millis(self.last_event.load(Ordering::Acquire)))
    }

    fn appended(&self, last: &Record) {
        self.last_event.store(last.time.millis(), Ordering::Release);
    }
}

/// A handle to the writer; cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    queue: mpsc::Sender<Message>,
    head: watch::Receiver<Position>,
    reader: Arc<dyn LogReader>,
    clock: Arc<LogClock>,
    counters: Arc<Counters>,
}

/// The writer's thread.
pub struct Writer {
    queue: mpsc::Sender<Message>,
    thread: thread::JoinHandle<Result<(), log::Error>>,
}

impl Ledger {
    /// Starts the writer over `log`. The observers must have seen everything up to the log's head. `rng` draws the ids
    /// of events.
    ///
    /// # Errors
    /// When the log's head cannot be read, or no thread can be started.
    pub fn start(
        log: Box<dyn EventLog>,
        observers: Vec<Box<dyn Observer>>,
        clock: Arc<dyn Clock>,
        rng: StdRng,
    ) -> Result<(Self, Writer), log::Error> {
        let reader = log.reader();
        let head = reader.head()?;
        let clock = Arc::new(LogClock { clock, last_event: AtomicI64::new(i64::MIN) });
        let before_last = Position::new(head.get().saturating_sub(1));
        if let Some(last) = reader.read(before_last, 1)?.last() {
            clock.appended(last);
        }
        let (head_sender, head) = watch::channel(head);
        let (queue, receiver) = mpsc::channel(QUEUE_LEN_MAX);
        let counters = Arc::new(Counters::default());
        let state =
            writer::State::new(log, observers, Arc::clone(&clock), rng, head_sender, Arc::clone(&counters));
        let thread =
            thread::Builder::new()
                .name("ledger-writer".into())
                .spawn(move || state.run(receiver))
                .map_err(|error| log::Error::Unavailable(format!("no thread for the writer: {error}")))?;
        let ledger = Self { queue: queue.clone(), head, reader, clock, counters };
        Ok((ledger, Writer { queue, thread }))
    }

    /// Carries out a command and waits for its answer.
    ///
    /// # Errors
    /// See [`Error`]; every variant says whether something may have been appended.
    pub async fn execute(&self, request: Request) -> Result<Committed, Error> {
        self.submit(request)?.answer().await
    }

    /// Carries out a command on a thread that may block.
    ///
    /// # Errors
    /// As [`Ledger::execute`].
    pub fn execute_blocking(&self, request: Request) -> Result<Committed, Error> {
        self.submit(request)?.0.blocking_recv().unwrap_or(Err(Error::Stopped))
    }

    /// Has a command wait for the writer. It is carried out whether its answer is waited for or not.
    ///
    /// # Errors
    /// [`Error::Overloaded`] and [`Error::Stopped`]: the command does not wait.
    pub fn submit(&self, request: Request) -> Result<Submitted, Error> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Message::Execute(Box::new(request), reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Error::Stopped,
        })?;
        Ok(Submitted(answer))
    }

    /// Tells the log that nothing has come for a while. Does nothing when commands wait, and says so.
    #[must_use]
    pub fn rest(&self) -> bool {
        self.queue_len() == 0 && self.queue.try_send(Message::Rest(None)).is_ok()
    }

    /// Has the log [rest](EventLog::rest) after the commands that wait now, though others may follow. Blocks.
    ///
    /// # Errors
    /// [`Error::Stopped`]; [`Error::Log`] when the log could not, and goes on all the same.
    pub fn rest_blocking(&self) -> Result<(), Error> {
        let (reply, rested) = oneshot::channel();
        self.queue.blocking_send(Message::Rest(Some(reply))).map_err(|_| Error::Stopped)?;
        let rested = rested.blocking_recv().map_err(|_| Error::Stopped)?;
        rested.map_err(|reason| log::Error::Unavailable(reason).into())
    }

    /// The time by which a command would be decided now: the clock's, but never before the last event's.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The position of the last record that the observers have seen.
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

    /// How many commands wait.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        QUEUE_LEN_MAX - self.queue.capacity()
    }
}

impl Writer {
    /// Answers the commands that wait, then ends the writer and closes the log. Blocks.
    ///
    /// # Errors
    /// What ended the writer before.
    pub fn stop(self) -> Result<(), log::Error> {
        // An error means that the writer has ended already; joining tells why.
        let _ = self.queue.blocking_send(Message::Stop);
        self.join()
    }

    /// Waits for the writer to end by itself, which it does only when the log is beyond recovery.
    ///
    /// # Errors
    /// What ended it.
    pub fn join(self) -> Result<(), log::Error> {
        drop(self.queue);
        self.thread.join().unwrap_or_else(|_| Err(log::Error::Unavailable("the writer panicked".into())))
    }
}
