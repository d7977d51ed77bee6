//! The commands to a webhook.

use crate::domain::webhook::{DisableReason, MessageType, WebhookRegistered, WebhookUrl};
use crate::value::id::OrganizationId;

/// A command to a webhook.
#[derive(Debug, Clone)]
pub enum WebhookCommand {
    /// Registers the webhook.
    Register {
        /// The organization whose events it receives; none for all events.
        organization_id: Option<OrganizationId>,
        /// The facts of the event.
        facts: WebhookRegistered,
    },
    /// Changes the fields that are `Some`.
    Edit {
        /// The new URL.
        url: Option<WebhookUrl>,
        /// The new message types; empty for all.
        event_types: Option<Vec<MessageType>>,
        /// Whether messages are delivered.
        enabled: Option<bool>,
    },
    /// Replaces its secret by a new one.
    RotateSecret {
        /// The number of milliseconds for which the current secret signs as well.
        overlap_millis: i64,
    },
    /// Disables the webhook because of its deliveries.
    Disable(DisableReason),
    /// Deletes the webhook. This is final.
    Delete,
}
