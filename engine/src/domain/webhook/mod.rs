//! The webhook: a URL that receives events as they happen (Standard Webhooks 1.0,
//! <https://www.standardwebhooks.com>). The log has its URL, its message types and the generation of the
//! secret that signs. The secret itself is stored nowhere, and deliveries are stored elsewhere.

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
