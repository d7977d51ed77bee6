//! The ledger: the one place where commands become events.
//!
//! [`Ledger::start`] gives the log to a thread of its own and returns a cheap handle. The thread takes the
//! commands that wait (there is no timer: the next group gathers while the current one is committed), decides
//! them one by one, appends their events in one durable commit, passes the new records to its [`Observer`]s,
//! and only then answers. So a caller that has an answer can rely on every observer knowing of it: a
//! verification that starts after a revocation was answered sees the revocation.

mod clock;
mod counters;
mod error;
mod handle;
mod message;
mod observer;
mod request;
mod writer;

pub use counters::Counters;
pub use error::Error;
pub use handle::Ledger;
pub use message::Submitted;
pub use observer::Observer;
pub use request::{Committed, Request};
pub use writer::Writer;

pub use crate::domain::aggregate::{Aggregate, Command};
pub use crate::domain::key::UserOf;

/// The most messages in the queue; one more command is refused with [`Error::Overloaded`].
pub const QUEUE_LEN_MAX: usize = 4_096;
/// The most commands in one commit.
pub const GROUP_LEN_MAX: usize = 1_024;
