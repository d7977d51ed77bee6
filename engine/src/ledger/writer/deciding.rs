//! How the writer comes to a decision: it loads what the rules look at, and asks them.

use foldhash::HashSet;

use super::{Decision, Loaded, State, does_not_fit};
use crate::domain::aggregate::{Aggregate, Command, Kind};
use crate::domain::decision::Context;
use crate::domain::event::Event;
use crate::domain::key::{KeyCommand, UserOf};
use crate::domain::rejection::Rejection;
use crate::domain::stream::{StreamId, StreamKind};
use crate::ledger::{Error, Request};
use crate::log::{self, Append, CommandId};
use crate::value::id::EventId;
use crate::value::time::Timestamp;

impl State {
    pub(super) fn decide(
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
        let aggregate = loaded.aggregate.as_ref();
        let events = match self.apply_rules(&request.command, aggregate, now, changed)? {
            None => return Ok(Decision::Later),
            Some(Ok(events)) => events,
            // The rejection may rest on the assumption that the id is new.
            Some(Err(_)) if is_new => return self.decide(request, attempts + 1, now, changed, names),
            Some(Err(rejection)) => return Ok(Decision::Answer(Err(rejection.into()))),
        };
        if events.is_empty() {
            return Ok(match loaded.aggregate {
                Some(aggregate) => Decision::Unchanged(aggregate),
                None => Decision::Answer(Err(Error::Rejected(Rejection::KeyUnknown))),
            });
        }
        let events = events.into_iter().map(|event| Ok((self.new_event_id(now)?, event)));
        let append = Append {
            events: events.collect::<Result<_, log::Error>>()?,
            stream,
            expected: loaded.head,
            time: now,
            subject: request.command.subject(loaded.aggregate.as_ref()),
            organization_id: request.command.organization_id(loaded.aggregate.as_ref()).cloned(),
            actor: request.actor.clone(),
            request_id: request.request_id.clone(),
            causation: request.causation,
            command: request.command_key,
        };
        Ok(Decision::Append(Box::new(append), loaded.aggregate))
    }

    /// Loads what the rules read and asks them. `None` when the group changes a stream that they read.
    fn apply_rules(
        &mut self,
        command: &Command,
        aggregate: Option<&Aggregate>,
        now: Timestamp,
        changed: &HashSet<StreamId>,
    ) -> Result<Option<Result<Vec<Event>, Rejection>>, log::Error> {
        let reads = command.reads(aggregate);
        if reads.streams().any(|stream| changed.contains(stream)) {
            return Ok(None);
        }
        for stream in reads.streams() {
            self.cache(stream)?;
        }
        let organization = self.cached(&reads.organization);
        let user = reads.counted_user(organization);
        let keys_of_user = match &user {
            // The observers do not yet know of the key that the user gets by this group.
            Some(user) if self.counted.contains(user) => return Ok(None),
            Some(user) => self.keys_of_user(user, now)?,
            None => 0,
        };
        let context = Context {
            organization,
            api: self.cached(&reads.api),
            client: self.cached(&reads.client),
            link: self.cached(&reads.link),
            keys_of_user,
            subject_keys: reads.subject.as_ref().map(|it| self.vault.keys_of(it)).unwrap_or_default(),
        };
        let decided = command.decide(aggregate, &context, now);
        self.counted.extend(user.filter(|_| decided.is_ok()));
        Ok(Some(decided))
    }

    fn new_event_id(&mut self, now: Timestamp) -> Result<EventId, log::Error> {
        let Ok(ulid) = self.ids.draw(now, &mut self.rng);
        Ok(ulid.into())
    }

    fn keys_of_user(&self, user: &UserOf, now: Timestamp) -> Result<u32, log::Error> {
        let counted = self.observers.iter().find_map(|observer| observer.keys_of_user(user, now));
        counted.ok_or_else(|| log::Error::Unavailable("no observer counts the keys of users".into()))
    }

    /// Loads a stream, from the directory if it is there.
    fn load(&mut self, stream: &StreamId) -> Result<Loaded, log::Error> {
        if let Some(loaded) = self.directory.get(stream) {
            return Ok(loaded.clone());
        }
        let loaded = self.read(stream)?;
        if loaded.aggregate.is_some() && is_cached(stream.kind()) {
            self.directory.insert(stream.clone(), loaded.clone());
        }
        Ok(loaded)
    }

    /// Puts a stream into the directory, unless it has no events.
    fn cache(&mut self, stream: &StreamId) -> Result<(), log::Error> {
        debug_assert!(is_cached(stream.kind()), "appends to {stream} do not reach the directory");
        if self.directory.contains_key(stream) {
            return Ok(());
        }
        let loaded = self.read(stream)?;
        if loaded.aggregate.is_some() {
            self.directory.insert(stream.clone(), loaded);
        }
        Ok(())
    }

    fn cached<A: Kind>(&self, stream: &Option<StreamId>) -> Option<&A> {
        A::of(self.directory.get(stream.as_ref()?)?.aggregate.as_ref()?)
    }

    fn read(&self, stream: &StreamId) -> Result<Loaded, log::Error> {
        let read = self.reader.read_stream(stream)?;
        let aggregate = Aggregate::fold(&read.records).map_err(does_not_fit)?;
        Ok(Loaded { aggregate, head: read.head })
    }
}

/// Whether the directory holds aggregates of this kind: all kinds that [`Reads`](crate::domain::decision::Reads) names.
pub(super) const fn is_cached(kind: StreamKind) -> bool {
    matches!(kind, StreamKind::Organization | StreamKind::Api | StreamKind::ClientLink)
}
