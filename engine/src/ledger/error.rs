//! The errors of a command.

use crate::domain::rejection::Rejection;
use crate::log;

/// The reason why a command did not take place, or why it is unknown whether it did.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The rules reject it. Nothing was appended.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Another command has the same [`CommandKey`](crate::log::CommandKey) id. Nothing was appended.
    #[error("another request was sent with the same idempotency key")]
    CommandReused,
    /// The queue is full. Nothing was appended.
    #[error("too many commands are waiting")]
    Overloaded,
    /// Other writers changed the stream at every attempt. Nothing was appended.
    #[error("the aggregate changed again and again while the command was decided")]
    Contended,
    /// It may have taken place or not. Repeating it with the same [`CommandKey`](crate::log::CommandKey)
    /// shows which.
    #[error("it is not known whether the command took place: {0}")]
    OutcomeUnknown(String),
    /// The log does not work. Nothing was appended.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The ledger has stopped. Nothing was appended, unless the ledger died while it worked on the command.
    #[error("the ledger has stopped")]
    Stopped,
}
