//! The writer's thread.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use tokio::sync::{mpsc, watch};

use super::{
    Aggregate, Command, Committed, Counters, Error, GROUP_LEN_MAX, Message, Observer, Reply, Request, UserOf,
};
use crate::api::{self, Api};
use crate::application::{self, ApplicationCommand};
use crate::event::Event;
use crate::id::{ApiId, ClientLinkId, EventId, OrganizationId};
use crate::key::{self, Key, KeyCommand, KeyState};
use crate::log::{
    self, Append, AppendOutcome, CommandId, EventLog, LogReader, RememberedCommand, StreamHead,
};
use crate::organization::{self, Organization};
use crate::portal_session::{self, PortalSessionCommand};
use crate::portfolio::{self, ClientLink, ClientLinkState};
use crate::position::Position;
use crate::record::{Record, StreamId};
use crate::rejection::Rejection;
use crate::root_key::{self, RootKeyCommand};
use crate::time::{Clock, Timestamp};

/// A command is decided anew at most this often when other writers change its stream meanwhile.
const ATTEMPTS_MAX: u32 = 8;
/// Organizations, APIs and portfolio links that are remembered between groups; past that, all are forgotten and read again.
const DIRECTORY_LEN_MAX: usize = 65_536;
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
    observers: Vec<Box<dyn Observer>>,
    clock: Arc<dyn Clock>,
    ids: StdRng,
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
}

/// Takes what waits in the queue, as far as a group has room; says whether the queue goes on.
fn take_waiting(queue: &mut mpsc::Receiver<Message>, waiting: &mut VecDeque<Waiting>) -> bool {
    while waiting.len() < GROUP_LEN_MAX {
        match queue.try_recv() {
            Ok(Message::Execute(request, reply)) => {
                waiting.push_back(Waiting { request, reply, attempts: 0 })
            }
            Ok(Message::Stop) => return false,
            Err(_) => break,
        }
    }
    true
}

impl State {
    pub(super) fn new(
        log: Box<dyn EventLog>,
        observers: Vec<Box<dyn Observer>>,
        clock: Arc<dyn Clock>,
        ids: StdRng,
        head: watch::Sender<Position>,
        counters: Arc<Counters>,
    ) -> Self {
        let reader = log.reader();
        Self {
            log,
            reader,
            observers,
            clock,
            ids,
            head,
            counters,
            directory: HashMap::new(),
            counted: HashSet::new(),
            last_group_len: 0,
            last_commit: Duration::ZERO,
        }
    }

    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Message>) -> Result<(), log::Error> {
        let mut waiting = VecDeque::new();
        let mut open = true;
        while open || !waiting.is_empty() {
            if waiting.is_empty() {
                match queue.blocking_recv() {
                    Some(Message::Execute(request, reply)) => {
                        waiting.push_back(Waiting { request, reply, attempts: 0 });
                    }
                    Some(Message::Stop) | None => open = false,
                }
            }
            open &= take_waiting(&mut queue, &mut waiting);
            if open {
                open &= self.gather(&mut queue, &mut waiting);
            }
            let len = waiting.len();
            waiting = self.commit_group(waiting)?;
            self.last_group_len = len - waiting.len();
        }
        Ok(())
    }

    /// Lets a group fill up. Those who were answered last come back while the next group is on the disk, so that two
    /// half-full groups would take turns for ever; waiting for them a little makes it one full group for the price of
    /// one. It ends when as many wait as were seen last, when nobody came for a moment, or at half the time that a commit
    /// takes, whichever is first. A caller who is alone is not made to wait. Says whether the queue goes on.
    fn gather(&self, queue: &mut mpsc::Receiver<Message>, waiting: &mut VecDeque<Waiting>) -> bool {
        if self.last_group_len < 2 {
            return true;
        }
        let enough = (self.last_group_len + waiting.len()).min(GROUP_LEN_MAX);
        let (started, mut quiet) = (Instant::now(), 0);
        while waiting.len() < enough && quiet < QUIET_MAX && started.elapsed() < self.last_commit / 2 {
            std::thread::sleep(GATHER_STEP);
            let before = waiting.len();
            if !take_waiting(queue, waiting) {
                return false;
            }
            quiet = if waiting.len() == before { quiet + 1 } else { 0 };
        }
        true
    }

    /// Decides and commits what it can, answers it, and gives back what has to be decided again.
    fn commit_group(&mut self, waiting: VecDeque<Waiting>) -> Result<VecDeque<Waiting>, log::Error> {
        let now = self.clock.now();
        let mut later = VecDeque::new();
        let mut group = Vec::with_capacity(waiting.len());
        let mut appending = Vec::with_capacity(waiting.len());
        let mut answers = Vec::new();
        let mut changed = HashSet::new();
        let mut names = HashSet::new();
        self.counted.clear();
        for mut command in waiting {
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
        let started = Instant::now();
        let outcomes = match self.log.append(group) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                let replies = appending.into_iter().map(|(command, _)| command.reply);
                return self.append_failed(&error, replies);
            }
        };
        self.last_commit = started.elapsed();
        let nanos = u64::try_from(self.last_commit.as_nanos()).unwrap_or(u64::MAX);
        Counters::add(&self.counters.append_nanos, nanos);
        Counters::add(&self.counters.groups, 1);
        for ((command, before), outcome) in appending.into_iter().zip(outcomes) {
            match outcome {
                AppendOutcome::Appended { records, head } => {
                    answers.push((command.reply, self.appended(before, &records, head)));
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
        Ok(())
    }

    /// Shows new records to the observers and says what the command led to.
    fn appended(
        &mut self,
        before: Option<Aggregate>,
        records: &[Record],
        head: StreamHead,
    ) -> Result<Committed, Error> {
        self.publish(records);
        let after = records.iter().try_fold(before, |aggregate, record| {
            Aggregate::apply(aggregate, record).map(Some).ok_or_else(|| does_not_fit(record.position))
        });
        let (Some(aggregate), Some(last)) = (after?, records.last()) else {
            return Err(Error::Log(log::Error::Unavailable("an append without events".into())));
        };
        if is_looked_at(&aggregate) {
            let loaded = Loaded { aggregate: Some(aggregate.clone()), head };
            self.directory.insert(last.stream.clone(), loaded);
        }
        Ok(Committed { aggregate, position: last.position, time: last.time, replayed: false })
    }

    fn publish(&mut self, records: &[Record]) {
        let Some(last) = records.last() else { return };
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
        replies: impl Iterator<Item = Reply>,
    ) -> Result<(), log::Error> {
        self.directory.clear();
        let unknown = matches!(error, log::Error::OutcomeUnknown(_));
        if unknown {
            self.counters.unknown_outcomes.fetch_add(1, Ordering::Relaxed);
        }
        tracing::error!(%error, "the log did not take a group of commands; reopening it");
        for reply in replies {
            let _ = reply.send(Err(if unknown {
                Error::OutcomeUnknown(error.to_string())
            } else {
                Error::Log(log::Error::Unavailable(error.to_string()))
            }));
        }
        let head = self.log.recover()?;
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

    fn decide(
        &mut self,
        request: &Request,
        attempts: u32,
        now: Timestamp,
        changed: &HashSet<StreamId>,
        names: &HashSet<CommandId>,
    ) -> Result<Decision, log::Error> {
        let stream = request.command.stream();
        if let Some(key) = request.command_key {
            if names.contains(&key.id) {
                return Ok(Decision::Later);
            }
            if let Some(remembered) = self.reader.find_command(&key.id) {
                let answer = if remembered.fingerprint == key.fingerprint {
                    self.replay(&stream, remembered)
                } else {
                    Err(Error::CommandReused)
                };
                return Ok(Decision::Answer(answer));
            }
        }
        if changed.contains(&stream) {
            return Ok(Decision::Later);
        }
        // Ids of new keys are drawn at random: taking it that nobody has this one saves looking, and the log refuses the
        // append should it be wrong.
        let is_new = attempts == 0 && matches!(request.command, Command::Key(_, KeyCommand::Create(_)));
        let loaded = if is_new { Loaded::ABSENT } else { self.load(&stream)? };
        if let Some(expected) = request.expected_version {
            let actual = loaded.head.version;
            if loaded.aggregate.is_some() && expected != actual {
                let rejection = Rejection::VersionConflict { expected, actual };
                return Ok(Decision::Answer(Err(rejection.into())));
            }
        }
        let Some(decided) = self.apply_rules(&request.command, loaded.aggregate.as_ref(), now, changed)?
        else {
            return Ok(Decision::Later);
        };
        let (events, organization_id) = match decided {
            Ok(decided) => decided,
            // The refusal may rest on what was taken for granted.
            Err(_) if is_new => return self.decide(request, attempts + 1, now, changed, names),
            Err(rejection) => return Ok(Decision::Answer(Err(rejection.into()))),
        };
        if events.is_empty() {
            return Ok(match loaded.aggregate {
                Some(aggregate) => Decision::Unchanged(aggregate),
                None => Decision::Answer(Err(Error::Rejected(Rejection::KeyUnknown))),
            });
        }
        let events = events.into_iter().map(|event| Ok((self.new_event_id(now)?, event)));
        let append = Append {
            stream,
            expected: loaded.head,
            time: now,
            organization_id,
            actor: request.actor.clone(),
            request_id: request.request_id.clone(),
            causation: request.causation,
            events: events.collect::<Result<_, log::Error>>()?,
            command: request.command_key,
        };
        Ok(Decision::Append(Box::new(append), loaded.aggregate))
    }

    /// Asks the rules. `None` when they look at a stream that the group changes.
    #[allow(clippy::type_complexity)]
    fn apply_rules(
        &mut self,
        command: &Command,
        aggregate: Option<&Aggregate>,
        now: Timestamp,
        changed: &HashSet<StreamId>,
    ) -> Result<Option<Result<(Vec<Event>, Option<OrganizationId>), Rejection>>, log::Error> {
        let decided = match command {
            Command::Key(_, command) => {
                let key = aggregate.and_then(|aggregate| match aggregate {
                    Aggregate::Key(key) => Some(key),
                    _ => None,
                });
                let (organization_id, api_id, owner) = match (key, command) {
                    (Some(key), _) => (Some(key.organization_id.clone()), key.api_id, Some(&key.owner)),
                    (None, KeyCommand::Create(create)) => {
                        (Some(create.organization_id.clone()), create.api_id, Some(&create.owner))
                    }
                    (None, _) => (None, None, None),
                };
                let client_id = owner.and_then(|owner| owner.client_id.clone());
                let link_id = organization_id.clone().zip(client_id.clone());
                let link_id = link_id.map(|(partner_id, client_id)| ClientLinkId { partner_id, client_id });
                let looks_at = organization_id.clone().map(StreamId::Organization).into_iter();
                let looks_at = looks_at.chain(api_id.map(StreamId::Api));
                let looks_at = looks_at.chain(client_id.clone().map(StreamId::Organization));
                let mut looks_at = looks_at.chain(link_id.clone().map(StreamId::ClientLink));
                if looks_at.any(|stream| changed.contains(&stream)) {
                    return Ok(None);
                }
                let organization =
                    organization_id.clone().map(|id| self.organization(id)).transpose()?.flatten();
                let api = api_id.map(|id| self.api(id)).transpose()?.flatten();
                let client = client_id.map(|id| self.organization(id)).transpose()?.flatten();
                let link = link_id.map(|id| self.client_link(id)).transpose()?.flatten();
                let user = organization.as_ref().and_then(|it| counted_user(it, key, command));
                let keys_of_user = match &user {
                    // Whoever gets a key by the same group has one more than the observers know of.
                    Some(user) if self.counted.contains(user) => return Ok(None),
                    Some(user) => self.keys_of_user(user, now)?,
                    None => 0,
                };
                let state = KeyState {
                    keys_of_user,
                    key,
                    organization: organization.as_ref(),
                    api: api.as_ref(),
                    client: client.as_ref(),
                    link: link.as_ref(),
                };
                let decided = key::decide(state, command, now);
                self.counted.extend(user.filter(|_| decided.is_ok()));
                decided.map(|events| (events, organization_id))
            }
            Command::Organization(id, command) => {
                let organization = aggregate.and_then(as_organization);
                organization::decide(organization, command, now).map(|events| (events, Some(id.clone())))
            }
            Command::ClientLink(id, command) => {
                let looks_at = [&id.partner_id, &id.client_id].map(|id| StreamId::Organization(id.clone()));
                if looks_at.iter().any(|stream| changed.contains(stream)) {
                    return Ok(None);
                }
                let partner = self.organization(id.partner_id.clone())?;
                let client = self.organization(id.client_id.clone())?;
                let link = aggregate.and_then(as_client_link);
                let state = ClientLinkState { link, partner: partner.as_ref(), client: client.as_ref() };
                portfolio::decide(id, state, *command).map(|events| (events, Some(id.partner_id.clone())))
            }
            Command::Api(_, command) => {
                api::decide(aggregate.and_then(as_api), command, now).map(|events| (events, None))
            }
            Command::RootKey(_, command) => {
                let root_key = aggregate.and_then(|aggregate| match aggregate {
                    Aggregate::RootKey(root_key) => Some(root_key),
                    _ => None,
                });
                let organization_id = match (root_key, command) {
                    (Some(root_key), _) => root_key.organization_id.clone(),
                    (None, RootKeyCommand::Create { organization_id, .. }) => organization_id.clone(),
                    (None, RootKeyCommand::Revoke) => None,
                };
                root_key::decide(root_key, command, now).map(|events| (events, organization_id))
            }
            Command::Application(_, command) => {
                let application = aggregate.and_then(|aggregate| match aggregate {
                    Aggregate::Application(application) => Some(application),
                    _ => None,
                });
                let organization_id = match (application, command) {
                    (Some(application), _) => application.organization_id.clone(),
                    (None, ApplicationCommand::Create { organization_id, .. }) => organization_id.clone(),
                    (None, _) => None,
                };
                application::decide(application, command, now).map(|events| (events, organization_id))
            }
            Command::PortalSession(_, command) => {
                let session = aggregate.and_then(|aggregate| match aggregate {
                    Aggregate::PortalSession(session) => Some(session),
                    _ => None,
                });
                let organization_id = match (session, command) {
                    (Some(session), _) => Some(session.organization_id.clone()),
                    (None, PortalSessionCommand::Create { organization_id, .. }) => {
                        Some(organization_id.clone())
                    }
                    (None, _) => None,
                };
                if organization_id.clone().is_some_and(|id| changed.contains(&StreamId::Organization(id))) {
                    return Ok(None);
                }
                let organization =
                    organization_id.clone().map(|id| self.organization(id)).transpose()?.flatten();
                portal_session::decide(session, organization.as_ref(), command, now)
                    .map(|events| (events, organization_id))
            }
        };
        Ok(Some(decided))
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

    fn new_event_id(&mut self, now: Timestamp) -> Result<EventId, log::Error> {
        let Ok(id) = EventId::generate(now, &mut self.ids);
        Ok(id)
    }

    fn keys_of_user(&self, user: &UserOf, now: Timestamp) -> Result<u32, log::Error> {
        let counted = self.observers.iter().find_map(|observer| observer.keys_of_user(user, now));
        counted.ok_or_else(|| log::Error::Unavailable("nobody counts the keys of users".into()))
    }

    fn organization(&mut self, id: OrganizationId) -> Result<Option<Organization>, log::Error> {
        let loaded = self.load(&StreamId::Organization(id))?;
        Ok(loaded.aggregate.as_ref().and_then(as_organization).cloned())
    }

    fn api(&mut self, id: ApiId) -> Result<Option<Api>, log::Error> {
        Ok(self.load(&StreamId::Api(id))?.aggregate.as_ref().and_then(as_api).cloned())
    }

    fn client_link(&mut self, id: ClientLinkId) -> Result<Option<ClientLink>, log::Error> {
        Ok(self.load(&StreamId::ClientLink(id))?.aggregate.as_ref().and_then(as_client_link).cloned())
    }

    fn load(&mut self, stream: &StreamId) -> Result<Loaded, log::Error> {
        if let Some(loaded) = self.directory.get(stream) {
            return Ok(loaded.clone());
        }
        let read = self.reader.read_stream(stream)?;
        let aggregate = Aggregate::fold(&read.records).map_err(does_not_fit)?;
        let loaded = Loaded { aggregate, head: read.head };
        if loaded.aggregate.as_ref().is_some_and(is_looked_at) {
            if self.directory.len() >= DIRECTORY_LEN_MAX {
                self.directory.clear();
            }
            self.directory.insert(stream.clone(), loaded.clone());
        }
        Ok(loaded)
    }
}

/// The user whose keys are to be counted before a command may give them another active one.
fn counted_user(organization: &Organization, key: Option<&Key>, command: &KeyCommand) -> Option<UserOf> {
    let (environment, user_id) = match (command, key) {
        (KeyCommand::Create(create), _) => (create.environment, create.user_id.clone()?),
        (KeyCommand::Reactivate, Some(key)) => (key.environment, key.user_id.clone()?),
        _ => return None,
    };
    organization.policies.get(environment)?.max_keys_per_user?;
    Some(UserOf { organization_id: organization.id.clone(), environment, user_id })
}

/// Whether decisions about other aggregates look at this one.
const fn is_looked_at(aggregate: &Aggregate) -> bool {
    matches!(aggregate, Aggregate::Organization(_) | Aggregate::Api(_) | Aggregate::ClientLink(_))
}

fn as_client_link(aggregate: &Aggregate) -> Option<&ClientLink> {
    match aggregate {
        Aggregate::ClientLink(link) => Some(link),
        _ => None,
    }
}

fn as_organization(aggregate: &Aggregate) -> Option<&Organization> {
    match aggregate {
        Aggregate::Organization(organization) => Some(organization),
        _ => None,
    }
}

fn as_api(aggregate: &Aggregate) -> Option<&Api> {
    match aggregate {
        Aggregate::Api(api) => Some(api),
        _ => None,
    }
}

fn does_not_fit(position: Position) -> log::Error {
    log::Error::Damaged {
        file: "the event log".into(),
        position,
        reason: "the event does not follow from those before it in its stream".into(),
    }
}
