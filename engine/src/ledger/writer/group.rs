//! The group: commands that are decided together and committed once.

use std::collections::VecDeque;

use foldhash::{HashSet, HashSetExt};

use super::{State, Waiting, is_erasure};
use crate::domain::aggregate::Aggregate;
use crate::domain::stream::StreamId;
use crate::ledger::message::{Answer, Reply};
use crate::ledger::{Committed, Counters, Error};
use crate::log::{self, Append, CommandId};
use crate::value::time::Timestamp;

/// A group while it is decided.
pub(super) struct Group {
    /// The time by which its commands are decided.
    pub(super) now: Timestamp,
    pub(super) appends: Vec<Append>,
    /// The commands of `appends`, each with its aggregate before it.
    pub(super) appending: Vec<(Waiting, Option<Aggregate>)>,
    /// Answers that append nothing.
    pub(super) answers: Vec<(Reply, Answer)>,
    /// Commands for the next group.
    pub(super) later: VecDeque<Waiting>,
    /// The streams of `appends`.
    pub(super) changed: HashSet<StreamId>,
    /// The names of the commands of `appends`.
    pub(super) names: HashSet<CommandId>,
    /// Whether it is an erasure's.
    erases: bool,
}

/// The result of deciding a command, before the commit.
pub(super) enum Decision {
    /// Its answer; it appends nothing.
    Answer(Answer),
    /// It changes nothing; the answer is the aggregate as it is.
    Unchanged(Aggregate),
    /// Its events, and the aggregate before them.
    Append(Box<Append>, Option<Aggregate>),
    /// It reads a stream that an earlier command of the group changes: it waits for the next group.
    Later,
}

impl Group {
    pub(super) fn new(now: Timestamp, len: usize) -> Self {
        Self {
            now,
            appends: Vec::with_capacity(len),
            appending: Vec::with_capacity(len),
            answers: Vec::new(),
            later: VecDeque::new(),
            changed: HashSet::with_capacity(len),
            names: HashSet::new(),
            erases: false,
        }
    }

    /// Whether a command may be in the group. An erasure is alone in its group: text that is sealed with the
    /// destroyed keys is in the log before it or not at all.
    fn takes(&self, command: &Waiting) -> bool {
        !self.erases && (self.appends.is_empty() || !is_erasure(&command.request.command))
    }

    fn append(&mut self, mut command: Waiting, append: Append, before: Option<Aggregate>) {
        self.erases = is_erasure(&command.request.command);
        self.changed.insert(append.stream.clone());
        self.names.extend(append.command.map(|command| command.id));
        self.appends.push(append);
        command.attempts += 1;
        self.appending.push((command, before));
    }
}

impl State {
    /// Decides and commits a group, answers it, and returns the commands that have to be decided again.
    pub(super) fn commit_group(
        &mut self,
        waiting: VecDeque<Waiting>,
    ) -> Result<VecDeque<Waiting>, log::Error> {
        let mut group = Group::new(self.clock.now(), waiting.len());
        self.counted.clear();
        self.directory.make_room();
        for command in waiting {
            if group.takes(&command) {
                self.decide_in(&mut group, command);
            } else {
                group.later.push_back(command);
            }
        }
        if !group.appends.is_empty() {
            self.append(&mut group)?;
        }
        // Answers that append nothing wait too: they may rest on what the commit has just made true.
        for (reply, answer) in group.answers {
            if matches!(answer, Err(Error::Rejected(_))) {
                Counters::add(&self.counters.rejections, 1);
            }
            // The caller may have disconnected; its command still counts.
            let _ = reply.send(answer);
        }
        Ok(group.later)
    }

    fn decide_in(&mut self, group: &mut Group, command: Waiting) {
        let answer = match self.decide(&command.request, command.attempts, group) {
            Ok(Decision::Append(append, before)) => return group.append(command, *append, before),
            Ok(Decision::Later) => return group.later.push_back(command),
            Ok(Decision::Answer(answer)) => answer,
            Ok(Decision::Unchanged(aggregate)) => {
                let position = *self.head.borrow();
                Ok(Committed { aggregate, position, time: group.now, replayed: false })
            }
            Err(error) => Err(error.into()),
        };
        group.answers.push((command.reply, answer));
    }
}
