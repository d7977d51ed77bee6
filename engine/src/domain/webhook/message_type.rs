//! What a webhook can be told of.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::event::EventType;
use crate::value::text::InvalidText;

/// A kind of message: that of an event, or of something that is about to happen. It is kept as its name, so that a log
/// reads on whatever kinds there will be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageType(Box<str>);

impl MessageType {
    /// The name of the message that a key will expire soon, which is no event.
    pub const KEY_EXPIRING_SOON: &'static str = "KeyExpiringSoon";

    /// The names of all kinds.
    pub fn names() -> impl Iterator<Item = &'static str> {
        EventType::ALL.iter().map(|it| it.as_str()).chain([Self::KEY_EXPIRING_SOON])
    }

    /// The name.
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
