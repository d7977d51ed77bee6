//! The webhook: an address outside that is told of events as they happen
//! (Standard Webhooks 1.0, <https://www.standardwebhooks.com>). The log knows where it is, what it wants to hear of and
//! which generation of its secret signs; the secret itself stands nowhere, and what was delivered is kept elsewhere.

mod address;
mod command;
mod decide;
mod event;
mod message_type;
mod state;
#[cfg(test)]
mod tests;

pub use address::WebhookUrl;
pub use command::WebhookCommand;
pub use decide::decide;
pub use event::{
    DisableReason, WebhookDisabled, WebhookEventTypesChanged, WebhookRegistered, WebhookSecretRotated,
    WebhookUrlChanged,
};
pub use message_type::MessageType;
pub use state::{PreviousSecret, Webhook};

/// The file in a data directory that holds the key which webhooks' secrets are made from.
pub const KEY_FILE_NAME: &str = "webhook-key";
