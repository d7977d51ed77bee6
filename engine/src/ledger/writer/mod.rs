//! The writer: the thread that takes waiting commands, [decides](deciding) them, [appends](appending) their
//! events in groups and answers.

mod appending;
mod deciding;
mod directory;
mod group;
mod queue;
mod recovery;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use foldhash::{HashSet, HashSetExt};
use rand::rngs::StdRng;
use tokio::sync::{mpsc, watch};

use self::directory::Directory;
use self::queue::Queue;
use crate::domain::aggregate::Command;
use crate::domain::key::UserOf;
use crate::ledger::clock::LogClock;
use crate::ledger::message::{Message, Reply};
use crate::ledger::{Counters, GROUP_LEN_MAX, Observer, Request};
use crate::log::{self, EventLog, LogReader};
use crate::value::id::UlidSequence;
use crate::value::position::Position;
use crate::vault::Vault;

/// The interval at which the queue is polled while a group fills up.
const GATHER_STEP: Duration = Duration::from_micros(50);
/// A group is full after this many polls without a new command.
const QUIET_MAX: u32 = 4;

/// The writer's thread.
pub struct Writer {
    queue: mpsc::Sender<Message>,
    thread: thread::JoinHandle<Result<(), log::Error>>,
}

impl Writer {
    pub(super) fn spawn(
        state: State,
        queue: mpsc::Sender<Message>,
        messages: mpsc::Receiver<Message>,
    ) -> Result<Self, log::Error> {
        let thread =
            thread::Builder::new()
                .name("ledger-writer".into())
                .spawn(move || state.run(messages))
                .map_err(|error| log::Error::Unavailable(format!("no thread for the writer: {error}")))?;
        Ok(Self { queue, thread })
    }

    /// Answers the commands that wait, then ends the writer and closes the log. Blocks.
    ///
    /// # Errors
    /// The error that ended the writer before.
    pub fn stop(self) -> Result<(), log::Error> {
        // An error means that the writer has already ended; joining returns the reason.
        let _ = self.queue.blocking_send(Message::Stop);
        self.join()
    }

    /// Waits for the writer to end by itself, which it does only when the log is beyond recovery.
    ///
    /// # Errors
    /// The error that ended it.
    pub fn join(self) -> Result<(), log::Error> {
        drop(self.queue);
        self.thread.join().unwrap_or_else(|_| Err(log::Error::Unavailable("the writer panicked".into())))
    }
}

/// A command in the queue, with the number of groups that it was part of.
struct Waiting {
    request: Box<Request>,
    reply: Reply,
    attempts: u32,
}

/// The state of the writer's thread.
pub(super) struct State {
    log: Box<dyn EventLog>,
    reader: Arc<dyn LogReader>,
    vault: Arc<Vault>,
    observers: Vec<Box<dyn Observer>>,
    clock: Arc<LogClock>,
    ids: UlidSequence,
    /// Draws `ids`.
    rng: StdRng,
    head: watch::Sender<Position>,
    counters: Arc<Counters>,
    directory: Directory,
    /// The users who receive a key in the group that is being decided, where a policy bounds their number
    /// of keys.
    counted: HashSet<UserOf>,
    /// The number of commands answered in the last group.
    last_group_len: usize,
    /// The duration of the last commit.
    last_commit: Duration,
    /// Whether the last commit mostly waited for the disk.
    disk_is_slow: bool,
}

impl State {
    pub(super) fn new(
        log: Box<dyn EventLog>,
        observers: Vec<Box<dyn Observer>>,
        clock: Arc<LogClock>,
        rng: StdRng,
        head: watch::Sender<Position>,
        counters: Arc<Counters>,
    ) -> Self {
        let (reader, vault) = (log.reader(), log.vault());
        Self {
            log,
            reader,
            vault,
            observers,
            clock,
            ids: UlidSequence::default(),
            rng,
            head,
            counters,
            directory: Directory::new(),
            counted: HashSet::new(),
            last_group_len: 0,
            last_commit: Duration::ZERO,
            disk_is_slow: false,
        }
    }

    fn run(mut self, messages: mpsc::Receiver<Message>) -> Result<(), log::Error> {
        let mut queue = Queue::new(messages);
        while queue.is_open || !queue.waiting.is_empty() {
            queue.wait();
            queue.take();
            if queue.is_open {
                self.gather(&mut queue);
            }
            let waiting = std::mem::take(&mut queue.waiting);
            if !waiting.is_empty() {
                let len = waiting.len();
                queue.waiting = self.commit_group(waiting)?;
                self.last_group_len = len - queue.waiting.len();
            }
            if let Some(replies) = queue.take_checkpoint() {
                let outcome = self.checkpoint()?;
                for reply in replies {
                    let _ = reply.send(outcome.clone());
                }
            }
        }
        Ok(())
    }

    /// Lets a group fill up on a slow disk. Callers that were answered last send their next commands while
    /// the next group is on the disk, so two half-full groups would alternate for ever; a short wait merges
    /// them into one full group for the price of one. The wait ends when as many commands wait as were seen
    /// last, when none arrives for a moment, or after half the time of a commit, whichever is first. A single
    /// caller never waits. On a fast disk two alternating groups are better: the processors work on the
    /// answers of one while the other is stored.
    fn gather(&self, queue: &mut Queue) {
        if self.last_group_len < 2 || !self.disk_is_slow {
            return;
        }
        let enough = (self.last_group_len + queue.waiting.len()).min(GROUP_LEN_MAX);
        let (started, mut quiet) = (Instant::now(), 0);
        while queue.is_open
            && queue.waiting.len() < enough
            && quiet < QUIET_MAX
            && started.elapsed() < self.last_commit / 2
        {
            thread::sleep(GATHER_STEP);
            let before = queue.waiting.len();
            queue.take();
            quiet = if queue.waiting.len() == before { quiet + 1 } else { 0 };
        }
    }
}

const fn is_erasure(command: &Command) -> bool {
    matches!(command, Command::Erasure(..))
}

fn does_not_fit(position: Position) -> log::Error {
    log::Error::Damaged {
        file: "the event log".into(),
        position,
        reason: "the event does not follow from those before it in its stream".into(),
    }
}
