//! The messages to the writer, and the answers to them.

use tokio::sync::oneshot;

use crate::ledger::{Committed, Error, Request};

pub(super) type Answer = Result<Committed, Error>;
pub(super) type Reply = oneshot::Sender<Answer>;

/// Receives the outcome of a checkpoint; the text is the reason of a failure.
pub(super) type CheckpointReply = oneshot::Sender<Result<(), String>>;

pub(super) enum Message {
    Execute(Box<Request>, Reply),
    /// Asks for a checkpoint of the log: once no command waits, or without waiting for that if there is a
    /// sender.
    Checkpoint(Option<CheckpointReply>),
    Stop,
}

/// A command in the writer's queue, or one that is being executed.
pub struct Submitted(pub(super) oneshot::Receiver<Answer>);

impl Submitted {
    /// Waits for its answer, which is there once. The command runs even if the returned future is dropped.
    ///
    /// # Errors
    /// As [`Ledger::execute`](crate::ledger::Ledger::execute).
    pub async fn answer(&mut self) -> Answer {
        (&mut self.0).await.unwrap_or(Err(Error::Stopped))
    }
}
