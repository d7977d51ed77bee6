//! The erasure of personal text of a user of an organization, or of a whole organization. It destroys the
//! keys that seal the text. The log records the names of these keys, and nothing about the
//! subject.

mod command;
mod decide;
mod event;
mod state;

pub use command::ErasureCommand;
pub use decide::{KEYS_MAX, decide};
pub(crate) use event::destroyed_keys;
pub use event::{ErasedSubject, PersonalDataErased};
pub use state::Erasure;
