//! What the writer is asked for.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::Waiting;
use crate::ledger::{GROUP_LEN_MAX, Message, Rested};

/// The writer's end of the queue, and what was taken from it.
pub(super) struct Queue {
    messages: mpsc::Receiver<Message>,
    /// Commands that are to be carried out.
    pub(super) waiting: VecDeque<Waiting>,
    /// Whether the log is to rest when nothing waits.
    may_rest: bool,
    /// Who waits for the log to rest, commands or not.
    resting: Vec<Rested>,
    /// Whether more may come.
    pub(super) is_open: bool,
}

impl Queue {
    pub(super) const fn new(messages: mpsc::Receiver<Message>) -> Self {
        Self { messages, waiting: VecDeque::new(), may_rest: false, resting: Vec::new(), is_open: true }
    }

    /// Waits until something comes, if nothing waits.
    pub(super) fn wait(&mut self) {
        if self.waiting.is_empty() && self.is_open {
            match self.messages.blocking_recv() {
                Some(message) => self.add(message),
                None => self.is_open = false,
            }
        }
    }

    /// Takes what is there, as far as a group has room.
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
            Message::Rest(None) => self.may_rest = true,
            Message::Rest(Some(reply)) => self.resting.push(reply),
            Message::Stop => self.is_open = false,
        }
    }

    /// Who is to be told, if the log is to rest now.
    pub(super) fn take_rest(&mut self) -> Option<Vec<Rested>> {
        let is_due = !self.resting.is_empty() || (self.may_rest && self.waiting.is_empty());
        is_due.then(|| {
            self.may_rest = false;
            std::mem::take(&mut self.resting)
        })
    }
}
