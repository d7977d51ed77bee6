//! The events of a webhook: facts, and apart from them the personal part. The order of fields is the order of bytes
//! (docs/format.md): a field is never added, removed or moved without a new schema number.

use serde::{Deserialize, Serialize};

use crate::domain::webhook::{MessageType, WebhookUrl};
use crate::value::time::Timestamp;

/// A webhook was registered. The organization that it is bound to, if one, is the record's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookRegistered {
    /// Where messages go.
    pub url: WebhookUrl,
    /// What it is told of; everything if empty.
    pub event_types: Vec<MessageType>,
}

/// A webhook's messages go elsewhere from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookUrlChanged {
    /// Where they go.
    pub url: WebhookUrl,
}

/// A webhook is told of other things than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookEventTypesChanged {
    /// What it is told of; everything if empty.
    pub event_types: Vec<MessageType>,
}

/// A webhook got a new secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookSecretRotated {
    /// Which one it is; the first is 1.
    pub generation: u32,
    /// Until when the secret before it signs too; where that is not later than the event's own time, not at all.
    pub previous_valid_until: Timestamp,
}

/// Nothing is delivered to a webhook any more, until it is enabled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookDisabled {
    /// Why.
    pub reason: DisableReason,
}

/// Why a webhook was disabled. The numbers are stored (docs/format.md) and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DisableReason {
    /// Somebody asked for it.
    Requested,
    /// The receiver answered 410 Gone.
    Gone,
    /// Nothing could be delivered for days.
    Failing,
}

impl DisableReason {
    const TABLE: [(Self, u8, &'static str); 3] =
        [(Self::Requested, 0, "requested"), (Self::Gone, 1, "gone"), (Self::Failing, 2, "failing")];
}

crate::value::stored_enum::stored_enum!(DisableReason, "reason to disable");
