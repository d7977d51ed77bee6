//! The key: an API key that Keyledger manages. [`decide`] turns commands into events, [`Key::apply`] events
//! into state.

mod command;
mod decide;
mod event;
mod expiry;
mod owner;
mod state;

pub use command::{CreateKey, EditKey, KeyCommand};
pub use decide::{KeyState, decide};
pub use event::{
    KeyCreated, KeyCreatedPersonal, KeyDescriptionChangedPersonal, KeyExpired, KeyExpiryChanged,
    KeyMetadataChangedPersonal, KeyRenamedPersonal, KeyRevoked, KeyRevokedPersonal, KeyRotated,
    KeyScopesChanged, RevocationReason,
};
pub use expiry::ExpiryPreset;
pub use owner::{Owner, OwnerKind, UserOf};
pub use state::{Key, KeyStatus, PreviousToken};
