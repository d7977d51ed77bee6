//! Deciding: loads what the rules read, and asks them.

use super::directory::{Directory, Loaded};
use super::group::{Decision, Group};
use super::{State, does_not_fit};
use crate::domain::aggregate::{Aggregate, Command};
use crate::domain::decision::Context;
use crate::domain::event::Event;
use crate::domain::key::{KeyCommand, UserOf};
use crate::domain::rejection::Rejection;
use crate::domain::stream::StreamId;
use crate::ledger::{Error, Request};
use crate::log::{self, Append};
use crate::value::id::EventId;
use crate::value::time::Timestamp;

impl State {
    pub(super) fn decide(
        &mut self,
        request: &Request,
        attempts: u32,
        group: &Group,
    ) -> Result<Decision, log::Error> {
        let stream = request.command.stream();
        if let Some(key) = request.command_key {
            if group.names.contains(&key.id) {
                return Ok(Decision::Later);
            }
            if let Some(remembered) = self.reader.find_command(&key.id) {
                return Ok(Decision::Answer(if remembered.fingerprint == key.fingerprint {
                    self.replay(&stream, remembered)
                } else {
                    Err(Error::CommandReused)
                }));
            }
        }
        if group.changed.contains(&stream) {
            return Ok(Decision::Later);
        }
        // Ids of new keys are drawn at random. Assuming that the id is new saves a read; if it is not, the
        // log refuses the append.
        let is_new = attempts == 0 && matches!(request.command, Command::Key(_, KeyCommand::Create(_)));
        let loaded = if is_new { Loaded::ABSENT } else { self.load(&stream)? };
        if let Some(expected) = request.expected_version {
            let actual = loaded.head.version;
            if loaded.aggregate.is_some() && expected != actual {
                let rejection = Rejection::VersionConflict { expected, actual };
                return Ok(Decision::Answer(Err(rejection.into())));
            }
        }
        let events = match self.apply_rules(&request.command, loaded.aggregate.as_ref(), group)? {
            None => return Ok(Decision::Later),
            Some(Ok(events)) => events,
            // The rejection may rest on the assumption that the id is new.
            Some(Err(_)) if is_new => return self.decide(request, attempts + 1, group),
            Some(Err(rejection)) => return Ok(Decision::Answer(Err(rejection.into()))),
        };
        if events.is_empty() {
            return Ok(match loaded.aggregate {
                Some(aggregate) => Decision::Unchanged(aggregate),
                None => Decision::Answer(Err(Error::Rejected(Rejection::KeyUnknown))),
            });
        }
        let append = self.prepare_append(request, stream, &loaded, events, group.now)?;
        Ok(Decision::Append(Box::new(append), loaded.aggregate))
    }

    /// Asks the rules. `None` when they read something that the group changes.
    fn apply_rules(
        &mut self,
        command: &Command,
        aggregate: Option<&Aggregate>,
        group: &Group,
    ) -> Result<Option<Result<Vec<Event>, Rejection>>, log::Error> {
        let reads = command.reads(aggregate);
        if reads.streams().any(|stream| group.changed.contains(stream)) {
            return Ok(None);
        }
        for stream in reads.streams() {
            self.cache(stream)?;
        }
        let organization = self.directory.state(reads.organization.as_ref());
        let user = reads.counted_user(organization);
        let keys_of_user = match &user {
            // The observers do not yet count the key that this group gives the user.
            Some(user) if self.counted.contains(user) => return Ok(None),
            Some(user) => self.keys_of_user(user, group.now)?,
            None => 0,
        };
        let context = Context {
            organization,
            api: self.directory.state(reads.api.as_ref()),
            client: self.directory.state(reads.client.as_ref()),
            link: self.directory.state(reads.link.as_ref()),
            keys_of_user,
            subject_keys: reads.subject.as_ref().map(|it| self.vault.keys_of(it)).unwrap_or_default(),
        };
        let decided = command.decide(aggregate, &context, group.now);
        self.counted.extend(user.filter(|_| decided.is_ok()));
        Ok(Some(decided))
    }

    fn prepare_append(
        &mut self,
        request: &Request,
        stream: StreamId,
        loaded: &Loaded,
        events: Vec<Event>,
        now: Timestamp,
    ) -> Result<Append, log::Error> {
        let aggregate = loaded.aggregate.as_ref();
        let events = events.into_iter().map(|event| Ok((self.new_event_id(now)?, event)));
        Ok(Append {
            events: events.collect::<Result<_, log::Error>>()?,
            stream,
            expected: loaded.head,
            time: now,
            organization_id: request.command.organization_id(aggregate).cloned(),
            subject: request.command.subject(aggregate),
            actor: request.actor.clone(),
            request_id: request.request_id.clone(),
            causation: request.causation,
            command: request.command_key,
        })
    }

    fn new_event_id(&mut self, now: Timestamp) -> Result<EventId, log::Error> {
        let Ok(ulid) = self.ids.draw(now, &mut self.rng);
        Ok(ulid.into())
    }

    fn keys_of_user(&self, user: &UserOf, now: Timestamp) -> Result<u32, log::Error> {
        let counted = self.observers.iter().find_map(|observer| observer.keys_of_user(user, now));
        counted.ok_or_else(|| log::Error::Unavailable("no observer counts the keys of users".into()))
    }

    fn load(&mut self, stream: &StreamId) -> Result<Loaded, log::Error> {
        if let Some(loaded) = self.directory.get(stream) {
            return Ok(loaded.clone());
        }
        let loaded = self.read(stream)?;
        if Directory::is_cached(stream.kind()) {
            self.directory.insert(stream.clone(), loaded.clone());
        }
        Ok(loaded)
    }

    /// Puts a stream into the directory, unless it has no events.
    fn cache(&mut self, stream: &StreamId) -> Result<(), log::Error> {
        if self.directory.get(stream).is_none() {
            let loaded = self.read(stream)?;
            self.directory.insert(stream.clone(), loaded);
        }
        Ok(())
    }

    fn read(&self, stream: &StreamId) -> Result<Loaded, log::Error> {
        let read = self.reader.read_stream(stream)?;
        let aggregate = Aggregate::fold(&read.records).map_err(does_not_fit)?;
        Ok(Loaded { aggregate, head: read.head })
    }
}
