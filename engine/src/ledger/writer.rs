//! The writer's thread: it takes what waits, has it decided ([`deciding`]), appends it in groups and answers.

mod deciding;
mod queue;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use rand::rngs::StdRng;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, watch};

use self::deciding::is_cached;
use self::queue::Queue;
use super::{
    Aggregate, Command, Committed, Counters, Error, GROUP_LEN_MAX, LogClock, Message, Observer, Reply,
    Request, UserOf,
};
use crate::domain::erasure::ErasureCommand;
use crate::domain::record::Record;
use crate::domain::stream::StreamId;
use crate::log::{self, Append, AppendOutcome, EventLog, LogReader, RememberedCommand, StreamHead};
use crate::value::id::UlidSequence;
use crate::value::position::Position;
use crate::value::subject::Subject;
use crate::vault::Vault;

/// A command is decided anew at most this often when other writers change its stream meanwhile.
const ATTEMPTS_MAX: u32 = 8;
/// Organizations, APIs and portfolio links that are remembered between groups; past that, all are forgotten and read again.
const DIRECTORY_LEN_MAX: usize = 65_536;
/// A disk is slow when a commit waits for it this many times as long as it works.
const SLOW_DISK: u32 = 5;
/// How often the queue is looked at while a group fills up.
const GATHER_STEP: Duration = Duration::from_micros(50);
/// A group is full when nobody came for this many looks.
const QUIET_MAX: u32 = 4;
/// Records read at a time when the log has moved without the observers.
const CATCH_UP_LEN: usize = 1_024;

struct Waiting {
    request: Box<Request>,
    reply: Reply,
    attempts: u32,
}

/// A stream as it was when a command was decided.
#[derive(Clone)]
struct Loaded {
    aggregate: Option<Aggregate>,
    head: StreamHead,
}

impl Loaded {
    /// A stream that has not begun.
    const ABSENT: Self = Self { aggregate: None, head: StreamHead::ABSENT };
}

/// What a command came to before the commit.
enum Decision {
    /// Its answer; it appends nothing.
    Answer(Result<Committed, Error>),
    /// Nothing changes; the answer is the aggregate as it is.
    Unchanged(Aggregate),
    Append(Box<Append>, Option<Aggregate>),
    /// It looks at a stream that a command before it in the group changes: it waits for the next group.
    Later,
}

pub(super) struct State {
    log: Box<dyn EventLog>,
    reader: Arc<dyn LogReader>,
    vault: Arc<Vault>,
    observers: Vec<Box<dyn Observer>>,
    clock: Arc<LogClock>,
    ids: UlidSequence,
    /// Of the ids.
    rng: StdRng,
    head: watch::Sender<Position>,
    counters: Arc<Counters>,
    /// Organizations, APIs and portfolio links as of the head: most commands look at one.
    directory: HashMap<StreamId, Loaded>,
    /// Users who get a key by the group that is being decided, where a policy bounds how many they may have.
    counted: HashSet<UserOf>,
    /// How many commands were answered last.
    last_group_len: usize,
    /// How long the last commit took.
    last_commit: Duration,
    /// Whether most of that was waiting for the disk.
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
            directory: HashMap::new(),
            counted: HashSet::new(),
            last_group_len: 0,
            last_commit: Duration::ZERO,
            disk_is_slow: false,
        }
    }

    pub(super) fn run(mut self, messages: mpsc::Receiver<Message>) -> Result<(), log::Error> {
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
            if let Some(asked) = queue.take_rest() {
                let rested = self.rest()?;
                for reply in asked {
                    let _ = reply.send(rested.clone());
                }
            }
        }
        Ok(())
    }

    /// Lets a group fill up on a slow disk. Those who were answered last come back while the next group is on the disk, so
    /// that two half-full groups would take turns for ever; waiting for them a little makes it one full group for the price
    /// of one. It ends when as many wait as were seen last, when nobody came for a moment, or at half the time that a commit
    /// takes, whichever is first. A caller who is alone is not made to wait. On a fast disk two groups that take turns are
    /// better: the processors work on the answers of one while the other is stored.
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
            std::thread::sleep(GATHER_STEP);
            let before = queue.waiting.len();
            queue.take();
            quiet = if queue.waiting.len() == before { quiet + 1 } else { 0 };
        }
    }

    /// Decides and commits what it can, answers it, and gives back what has to be decided again.
    fn commit_group(&mut self, waiting: VecDeque<Waiting>) -> Result<VecDeque<Waiting>, log::Error> {
        let now = self.clock.now();
        let mut later = VecDeque::new();
        let mut group = Vec::with_capacity(waiting.len());
        let mut appending = Vec::with_capacity(waiting.len());
        let mut answers = Vec::new();
        let mut changed = HashSet::with_capacity(waiting.len());
        let mut names = HashSet::new();
        self.counted.clear();
        if self.directory.len() >= DIRECTORY_LEN_MAX {
            self.directory.clear();
        }
        let mut erases = false;
        for mut command in waiting {
            // An erasure has a group to itself: what is sealed with its keys is in the log before it or not at all.
            if erases || (!group.is_empty() && is_erasure(&command.request.command)) {
                later.push_back(command);
                continue;
            }
            match self.decide(&command.request, command.attempts, now, &changed, &names) {
                Ok(Decision::Later) => later.push_back(command),
                Ok(Decision::Answer(answer)) => answers.push((command.reply, answer)),
                Ok(Decision::Unchanged(aggregate)) => {
                    let position = *self.head.borrow();
                    answers.push((
                        command.reply,
                        Ok(Committed { aggregate, position, time: now, replayed: false }),
                    ));
                }
                Ok(Decision::Append(append, before)) => {
                    erases = is_erasure(&command.request.command);
                    changed.insert(append.stream.clone());
                    names.extend(append.command.map(|command| command.id));
                    group.push(*append);
                    command.attempts += 1;
                    appending.push((command, before));
                }
                Err(error) => answers.push((command.reply, Err(error.into()))),
            }
        }
        if !group.is_empty() {
            self.append(group, appending, &mut answers, &mut later)?;
        }
        // Answers that append nothing wait too: they may rest on what the commit has just made true.
        for (reply, answer) in answers {
            if matches!(answer, Err(Error::Rejected(_))) {
                Counters::add(&self.counters.rejections, 1);
            }
            // Nobody listening is no error: the caller has gone, the command stands.
            let _ = reply.send(answer);
        }
        Ok(later)
    }

    fn append(
        &mut self,
        group: Vec<Append>,
        appending: Vec<(Waiting, Option<Aggregate>)>,
        answers: &mut Vec<(Reply, Result<Committed, Error>)>,
        later: &mut VecDeque<Waiting>,
    ) -> Result<(), log::Error> {
        let (started, worked) = (Instant::now(), processor_time());
        let outcomes = match self.log.append(group) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                return self.append_failed(&error, appending.into_iter().map(|(command, _)| command));
            }
        };
        self.last_commit = started.elapsed();
        let worked = processor_time().saturating_sub(worked);
        self.disk_is_slow = self.last_commit.saturating_sub(worked) > worked * SLOW_DISK;
        let nanos = u64::try_from(self.last_commit.as_nanos()).unwrap_or(u64::MAX);
        Counters::add(&self.counters.append_nanos, nanos);
        Counters::add(&self.counters.groups, 1);
        let mut published = Vec::with_capacity(outcomes.len());
        for ((command, before), outcome) in appending.into_iter().zip(outcomes) {
            match outcome {
                AppendOutcome::Appended { records, head } => {
                    self.forget_erased(&command.request.command);
                    answers.push((command.reply, self.appended(before, &records, head)));
                    published.extend(records);
                }
                AppendOutcome::Conflict if command.attempts < ATTEMPTS_MAX => {
                    self.directory.clear();
                    later.push_back(command);
                }
                AppendOutcome::Conflict => answers.push((command.reply, Err(Error::Contended))),
                AppendOutcome::Replayed(remembered) => {
                    let answer = self.replay(&command.request.command.stream(), remembered);
                    answers.push((command.reply, answer));
                }
                AppendOutcome::CommandReused => answers.push((command.reply, Err(Error::CommandReused))),
            }
        }
        // The group at once: whoever follows the log is woken up once.
        self.publish(&published);
        self.log.told(published);
        Ok(())
    }

    /// Has what is in memory forgotten of a subject that was erased.
    fn forget_erased(&mut self, command: &Command) {
        let Command::Erasure(_, ErasureCommand::Erase { organization_id, user_id }) = command else { return };
        let subject = Subject::of(Some(organization_id), user_id.as_ref());
        for observer in &mut self.observers {
            observer.erased(&subject);
        }
        self.directory.clear();
    }

    /// Says what a command led to, and remembers it.
    fn appended(
        &mut self,
        before: Option<Aggregate>,
        records: &[Record],
        head: StreamHead,
    ) -> Result<Committed, Error> {
        let after = records.iter().try_fold(before, |aggregate, record| {
            Aggregate::apply(aggregate, record).map(Some).ok_or_else(|| does_not_fit(record.position))
        });
        let (Some(aggregate), Some(last)) = (after?, records.last()) else {
            return Err(Error::Log(log::Error::Unavailable("an append without events".into())));
        };
        if is_cached(last.stream.kind()) {
            let loaded = Loaded { aggregate: Some(aggregate.clone()), head };
            self.directory.insert(last.stream.clone(), loaded);
        }
        Ok(Committed { aggregate, position: last.position, time: last.time, replayed: false })
    }

    /// Shows new records to the observers, then tells everybody of them.
    fn publish(&mut self, records: &[Record]) {
        let Some(last) = records.last() else { return };
        self.clock.appended(last);
        for observer in &mut self.observers {
            observer.committed(records);
        }
        Counters::add(&self.counters.events, records.len() as u64);
        self.head.send_replace(last.position);
    }

    /// Tells the callers, finds out where the log stands, and shows the observers what is there after all.
    fn append_failed(
        &mut self,
        error: &log::Error,
        commands: impl Iterator<Item = Waiting>,
    ) -> Result<(), log::Error> {
        self.directory.clear();
        let unknown = matches!(error, log::Error::OutcomeUnknown(_));
        if unknown {
            self.counters.unknown_outcomes.fetch_add(1, Ordering::Relaxed);
        }
        tracing::error!(%error, "the log did not take a group of commands; reopening it");
        let mut erasures = Vec::new();
        for Waiting { request, reply, .. } in commands {
            if let Command::Erasure(..) = request.command {
                erasures.push(request.command);
            }
            let _ = reply.send(Err(if unknown {
                Error::OutcomeUnknown(error.to_string())
            } else {
                Error::Log(log::Error::Unavailable(match error {
                    log::Error::Unavailable(reason) => reason.clone(),
                    other => other.to_string(),
                }))
            }));
        }
        self.log.recover()?;
        for command in &erasures {
            if !self.reader.read_stream(&command.stream())?.records.is_empty() {
                self.forget_erased(command);
            }
        }
        self.catch_up()
    }

    /// Has the log make use of the pause. Says why it did not, if it goes on all the same.
    fn rest(&mut self) -> Result<Result<(), String>, log::Error> {
        let Err(error) = self.log.rest() else { return Ok(Ok(())) };
        tracing::error!(%error, "the log did not take a commit; reopening it");
        self.log.recover()?;
        self.catch_up()?;
        Ok(Err(error.to_string()))
    }

    /// Shows the observers what the log has and they have not seen.
    fn catch_up(&mut self) -> Result<(), log::Error> {
        let head = self.reader.head()?;
        let mut seen = *self.head.borrow();
        while seen < head {
            let records = self.reader.read(seen, CATCH_UP_LEN)?;
            let Some(last) = records.last() else { break };
            seen = last.position;
            self.publish(&records);
        }
        tracing::warn!(%head, "the log works again");
        Ok(())
    }

    /// What a remembered command led to, the first time.
    fn replay(&self, stream: &StreamId, remembered: RememberedCommand) -> Result<Committed, Error> {
        // The stream is the one that the command went to then: a repeated creation has drawn a new id since.
        let first = Position::new(remembered.first.get() - 1);
        let stream = self.reader.read(first, 1)?.pop().map_or_else(|| stream.clone(), |record| record.stream);
        let mut records = self.reader.read_stream(&stream)?.records;
        records.retain(|record| record.position <= remembered.last);
        let time = remembered.time;
        match Aggregate::fold(&records).map_err(does_not_fit)? {
            Some(aggregate) => Ok(Committed { aggregate, position: remembered.last, time, replayed: true }),
            None => Err(Error::Log(does_not_fit(remembered.last))),
        }
    }
}

/// The processor time that this thread has had.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
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
