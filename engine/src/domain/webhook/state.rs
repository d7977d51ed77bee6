//! The state of a webhook, as its events leave it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::record::Record;
use crate::domain::stream::StreamId;
use crate::domain::webhook::{DisableReason, MessageType, WebhookSecretRotated, WebhookUrl};
use crate::value::id::{OrganizationId, WebhookId};
use crate::value::position::{Position, Version};
use crate::value::time::Timestamp;

/// The most previous secrets that sign beside the current one. The oldest stop early if there are more.
const PREVIOUS_SECRETS_MAX: usize = 4;

/// A secret that a rotation replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousSecret {
    /// The number of the secret.
    pub generation: u32,
    /// The time until which it signs beside the current one.
    pub valid_until: Timestamp,
}

/// A webhook, as its events leave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// The organization whose events it receives; none for all events.
    pub organization_id: Option<OrganizationId>,
    /// Its URL.
    pub url: WebhookUrl,
    /// The message types that it receives; all if empty.
    pub event_types: Vec<MessageType>,
    /// The number of the current secret; the first is 1.
    pub generation: u32,
    /// The previous secrets that still sign.
    pub previous_secrets: Vec<PreviousSecret>,
    /// The reason for which it is disabled; none while it is enabled.
    pub disabled: Option<DisableReason>,
    /// The position of its first event. It receives the events after that.
    pub registered_at: Position,
    /// The time of its registration.
    pub created_at: Timestamp,
    /// The id of the actor that registered it.
    pub created_by: Arc<str>,
    /// The time of its deletion.
    pub deleted_at: Option<Timestamp>,
    /// The number of its events.
    pub version: Version,
}

impl Webhook {
    /// Whether messages are delivered to it.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.deleted_at.is_none() && self.disabled.is_none()
    }

    /// Whether it receives messages of a type.
    #[must_use]
    pub fn wants(&self, message_type: &str) -> bool {
        self.event_types.is_empty() || self.event_types.iter().any(|it| it.as_str() == message_type)
    }

    /// The numbers of the secrets that sign at `now`, the current one first.
    pub fn generations(&self, now: Timestamp) -> impl Iterator<Item = u32> {
        let previous = self.previous_secrets.iter().rev().filter(move |it| now < it.valid_until);
        std::iter::once(self.generation).chain(previous.map(|it| it.generation))
    }

    /// Returns the webhook after `record`, which must be of its stream, or `None` when the record does not
    /// fit.
    #[must_use]
    pub fn apply(webhook: Option<Self>, record: &Record) -> Option<Self> {
        let StreamId::Webhook(id) = record.stream else { return None };
        let mut webhook = match (webhook, &record.event) {
            (None, Event::WebhookRegistered(facts, ())) => {
                return Some(Self {
                    id,
                    organization_id: record.organization_id.clone(),
                    url: facts.url.clone(),
                    event_types: facts.event_types.clone(),
                    generation: 1,
                    previous_secrets: Vec::new(),
                    disabled: None,
                    registered_at: record.position,
                    created_at: record.time,
                    created_by: record.actor.id.clone(),
                    deleted_at: None,
                    version: record.version,
                });
            }
            (None, _) => return None,
            (Some(webhook), _) => webhook,
        };
        match &record.event {
            Event::WebhookUrlChanged(facts, ()) => webhook.url.clone_from(&facts.url),
            Event::WebhookEventTypesChanged(facts, ()) => {
                webhook.event_types.clone_from(&facts.event_types);
            }
            Event::WebhookSecretRotated(facts, ()) => webhook.rotate(facts, record.time),
            Event::WebhookDisabled(facts, ()) => webhook.disabled = Some(facts.reason),
            Event::WebhookEnabled((), ()) => webhook.disabled = None,
            Event::WebhookDeleted((), ()) => webhook.deleted_at = Some(record.time),
            _ => return None,
        }
        webhook.version = record.version;
        Some(webhook)
    }

    /// No secret that was replaced earlier signs for longer than the one that is replaced now.
    fn rotate(&mut self, rotated: &WebhookSecretRotated, time: Timestamp) {
        let valid_until = rotated.previous_valid_until;
        self.previous_secrets.push(PreviousSecret { generation: self.generation, valid_until });
        for previous in &mut self.previous_secrets {
            previous.valid_until = previous.valid_until.min(valid_until);
        }
        self.previous_secrets.retain(|previous| time < previous.valid_until);
        let surplus = self.previous_secrets.len().saturating_sub(PREVIOUS_SECRETS_MAX);
        self.previous_secrets.drain(..surplus);
        self.generation = rotated.generation;
    }
}
