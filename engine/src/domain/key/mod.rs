//! The key: the thing that is managed. [`decide`] says what a command leads to, [`Key::apply`] what an event means.

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
