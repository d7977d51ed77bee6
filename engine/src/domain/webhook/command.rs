//! The commands to a webhook.

use crate::domain::webhook::{DisableReason, MessageType, WebhookRegistered, WebhookUrl};
use crate::value::id::OrganizationId;

/// What can be asked of a webhook.
#[derive(Debug, Clone)]
pub enum WebhookCommand {
    /// Register it.
    Register {
        /// The organization whose events it is told of; all events if none.
        organization_id: Option<OrganizationId>,
        /// The facts to record.
        facts: WebhookRegistered,
    },
    /// Change what `Some` names.
    Edit {
        /// Where messages go.
        url: Option<WebhookUrl>,
        /// What it is told of.
        event_types: Option<Vec<MessageType>>,
        /// Whether anything is delivered.
        enabled: Option<bool>,
    },
    /// Give it a new secret; the present one signs for this many milliseconds more.
    RotateSecret {
        /// For how long.
        overlap_millis: i64,
    },
    /// Deliver nothing any more, for a reason that deliveries showed.
    Disable(DisableReason),
    /// Delete it, for good.
    Delete,
}
