//! The events of a webhook: facts, and the personal part apart from them. The order of fields is the order of
//! bytes (docs/format.md). To add, remove or move a field, introduce a new schema number.

use serde::{Deserialize, Serialize};

use crate::domain::webhook::{MessageType, WebhookUrl};
use crate::value::time::Timestamp;

/// A webhook was registered. The record names the organization that it is bound to, if any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookRegistered {
    /// Its URL.
    pub url: WebhookUrl,
    /// The message types that it receives; all if empty.
    pub event_types: Vec<MessageType>,
}

/// A webhook's URL was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookUrlChanged {
    /// The new URL.
    pub url: WebhookUrl,
}

/// A webhook's message types were changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookEventTypesChanged {
    /// The message types that it receives; all if empty.
    pub event_types: Vec<MessageType>,
}

/// A webhook's secret was replaced by a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookSecretRotated {
    /// The number of the new secret; the first is 1.
    pub generation: u32,
    /// The time until which the previous secret signs as well. It stops at once if that is not after the
    /// event's own time.
    pub previous_valid_until: Timestamp,
}

/// A webhook was disabled: nothing is delivered to it until it is enabled again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookDisabled {
    /// The reason.
    pub reason: DisableReason,
}

/// The reason for which a webhook was disabled. The numbers are stored (docs/format.md) and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DisableReason {
    /// A caller disabled it.
    Requested,
    /// The receiver answered 410 Gone.
    Gone,
    /// All deliveries failed for days.
    Failing,
}

impl DisableReason {
    const TABLE: [(Self, u8, &'static str); 3] =
        [(Self::Requested, 0, "requested"), (Self::Gone, 1, "gone"), (Self::Failing, 2, "failing")];
}

crate::value::stored_enum::stored_enum!(DisableReason, "reason to disable");
