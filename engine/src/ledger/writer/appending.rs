//! Appending: commits a group, and passes on its records.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::directory::{Directory, Loaded};
use super::group::Group;
use super::{State, does_not_fit};
use crate::domain::aggregate::{Aggregate, Command};
use crate::domain::erasure::{self, ErasureCommand};
use crate::domain::record::Record;
use crate::domain::stream::StreamId;
use crate::ledger::message::Answer;
use crate::ledger::{Committed, Counters, Error};
use crate::log::{self, AppendOutcome, RememberedCommand, StreamHead};
use crate::value::position::Position;
use crate::value::subject::Subject;

/// The most times a command is decided when other writers change its stream meanwhile.
const ATTEMPTS_MAX: u32 = 8;
/// A disk is slow when a commit waits for it this many times as long as it works.
const SLOW_DISK: u32 = 5;

impl State {
    pub(super) fn append(&mut self, group: &mut Group) -> Result<(), log::Error> {
        let appending = std::mem::take(&mut group.appending);
        let (started, worked) = (Instant::now(), processor_time());
        let outcomes = match self.log.append(std::mem::take(&mut group.appends)) {
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
            let answer = match outcome {
                AppendOutcome::Appended { records, head } => {
                    self.forget_erased(&command.request.command, &records);
                    let answer = self.appended(before, &records, head);
                    published.extend(records);
                    answer
                }
                AppendOutcome::Conflict if command.attempts < ATTEMPTS_MAX => {
                    self.directory.clear();
                    group.later.push_back(command);
                    continue;
                }
                AppendOutcome::Conflict => Err(Error::Contended),
                AppendOutcome::Replayed(remembered) => {
                    self.replay(&command.request.command.stream(), remembered)
                }
                AppendOutcome::CommandReused => Err(Error::CommandReused),
            };
            group.answers.push((command.reply, answer));
        }
        // The whole group at once, so that each follower of the log wakes up once.
        self.publish(&published);
        self.log.recycle(published);
        Ok(())
    }

    /// Drops the personal text of an erased subject from memory. Does nothing for other commands, and for an
    /// erasure whose records name no destroyed key: there was no text.
    pub(super) fn forget_erased(&mut self, command: &Command, records: &[Record]) {
        let Command::Erasure(_, ErasureCommand::Erase { organization_id, user_id }) = command else { return };
        if records.iter().all(|record| erasure::destroyed_keys(&record.event).is_empty()) {
            return;
        }
        let subject = Subject::of(Some(organization_id), user_id.as_ref());
        for observer in &mut self.observers {
            observer.erased(&subject);
        }
        self.directory.clear();
    }

    /// The answer to a command whose events were appended. Updates the directory.
    fn appended(&mut self, before: Option<Aggregate>, records: &[Record], head: StreamHead) -> Answer {
        let after = records.iter().try_fold(before, |aggregate, record| {
            Aggregate::apply(aggregate, record).map(Some).ok_or_else(|| does_not_fit(record.position))
        });
        let (Some(aggregate), Some(last)) = (after?, records.last()) else {
            return Err(Error::Log(log::Error::Unavailable("an append without events".into())));
        };
        if Directory::is_cached(last.stream.kind()) {
            let loaded = Loaded { aggregate: Some(aggregate.clone()), head };
            self.directory.insert(last.stream.clone(), loaded);
        }
        Ok(Committed { aggregate, position: last.position, time: last.time, replayed: false })
    }

    /// Passes new records to the observers, then moves the head that all others follow.
    pub(super) fn publish(&mut self, records: &[Record]) {
        let Some(last) = records.last() else { return };
        self.clock.appended(last);
        for observer in &mut self.observers {
            observer.committed(records);
        }
        Counters::add(&self.counters.events, records.len() as u64);
        self.head.send_replace(last.position);
    }

    /// The result that a remembered command had the first time.
    pub(super) fn replay(&self, stream: &StreamId, remembered: RememberedCommand) -> Answer {
        // The stream of that time may be another one: a repeated creation has drawn a new id.
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

/// The processor time that this thread has used.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}
