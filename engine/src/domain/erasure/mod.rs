//! The erasure of personal text: of a user of an organization, or of a whole organization. It destroys the keys that the
//! text is sealed with ([`crate::vault`]); what is left in the log is which keys these were, and nothing of whom they were.

mod command;
mod decide;
mod event;
mod state;

pub use command::ErasureCommand;
pub use decide::{KEYS_MAX, decide};
pub(crate) use event::destroyed_keys;
pub use event::{ErasedSubject, PersonalDataErased};
pub use state::Erasure;
