//! The root key: a credential for managing or verifying keys.

mod command;
mod decide;
mod event;
mod state;

pub use command::RootKeyCommand;
pub use decide::decide;
pub use event::{RootKeyCreated, RootKeyCreatedPersonal};
pub use state::RootKey;
