//! The writer's end of the queue.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::Waiting;
use crate::ledger::GROUP_LEN_MAX;
use crate::ledger::message::{CheckpointReply, Message};

/// The channel, and the messages taken from it.
pub(super) struct Queue {
    messages: mpsc::Receiver<Message>,
    /// Commands to execute.
    pub(super) waiting: VecDeque<Waiting>,
    /// Whether an idle checkpoint is due once no command waits.
    idle_checkpoint: bool,
    /// Callers that wait for a checkpoint, whether commands wait or not.
    checkpoints: Vec<CheckpointReply>,
    /// Whether more messages may follow.
    pub(super) is_open: bool,
}

impl Queue {
    pub(super) const fn new(messages: mpsc::Receiver<Message>) -> Self {
        Self {
            messages,
            waiting: VecDeque::new(),
            idle_checkpoint: false,
            checkpoints: Vec::new(),
            is_open: true,
        }
    }

    /// Blocks until a message arrives, if no command waits.
    pub(super) fn wait(&mut self) {
        if self.waiting.is_empty() && self.is_open {
            match self.messages.blocking_recv() {
                Some(message) => self.add(message),
                None => self.is_open = false,
            }
        }
    }

    /// Takes the messages that are there, up to a full group.
    pub(super) fn take(&mut self) {
        while self.waiting.len() < GROUP_LEN_MAX && self.is_open {
            let Ok(message) = self.messages.try_recv() else { break };
            self.add(message);
        }
    }

    fn add(&mut self, message: Message) {
        match message {
            Message::Execute(request, reply) => {
                self.waiting.push_back(Waiting { request, reply, attempts: 0 });
            }
            Message::Checkpoint(None) => self.idle_checkpoint = true,
            Message::Checkpoint(Some(reply)) => self.checkpoints.push(reply),
            Message::Stop => self.is_open = false,
        }
    }

    /// The callers to notify if a checkpoint is due now; none if it is not.
    pub(super) fn take_checkpoint(&mut self) -> Option<Vec<CheckpointReply>> {
        let is_due = !self.checkpoints.is_empty() || (self.idle_checkpoint && self.waiting.is_empty());
        is_due.then(|| {
            self.idle_checkpoint = false;
            std::mem::take(&mut self.checkpoints)
        })
    }
}
