//! The portfolio of a partner: the client organizations that are linked to it.
//!
//! Each pair of partner and client is an aggregate of its own, so a portfolio can have any size: linking a
//! client costs the same with ten others as with a hundred thousand.

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::ClientLinkCommand;
pub use decide::{ClientLinkState, decide};
pub use event::{ClientLinked, ClientUnlinked};
pub use state::ClientLink;
