//! The types of messages to webhooks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::event::EventType;
use crate::value::text::InvalidText;

/// A type of message: an event type, or [`KEY_EXPIRING_SOON`](Self::KEY_EXPIRING_SOON). Stored by name, so
/// that logs stay readable when types are added or removed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageType(Box<str>);

impl MessageType {
    /// The message that a key will expire soon, which is not an event.
    pub const KEY_EXPIRING_SOON: &'static str = "KeyExpiringSoon";

    /// The names of all types.
    pub fn names() -> impl Iterator<Item = &'static str> {
        EventType::ALL.iter().map(|it| it.as_str()).chain([Self::KEY_EXPIRING_SOON])
    }

    /// The name in the log and in the API.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MessageType {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        if Self::names().any(|name| name == text) {
            return Ok(Self(text.into()));
        }
        Err(InvalidText::new("is not a type of event, such as KeyRevoked, nor KeyExpiringSoon"))
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
