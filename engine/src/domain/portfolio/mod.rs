//! The portfolio of a partner: the client organizations that are linked to it.
//!
//! Each pair of partner and client is an aggregate of its own, so that a portfolio may be of any size: linking one client
//! costs the same whether there are ten others or a hundred thousand.

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
