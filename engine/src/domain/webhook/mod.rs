//! The webhook: an address outside that is told of events as they happen
//! (Standard Webhooks 1.0, <https://www.standardwebhooks.com>). The log knows where it is, what it wants to hear of and
//! which generation of its secret signs; the secret itself stands nowhere, and what was delivered is kept elsewhere.

mod address;
mod message_type;

#[cfg(test)]
mod tests;

pub use address::WebhookUrl;
pub use message_type::MessageType;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::organization::Organization;
use crate::domain::record::Record;
use crate::domain::rejection::Rejection;
use crate::domain::stream::StreamId;
use crate::value::id::{OrganizationId, WebhookId};
use crate::value::position::{Position, Version};
use crate::value::text::is_same_set;
use crate::value::time::Timestamp;

/// At most this many secrets before the present one sign beside it; of more the oldest end early.
const PREVIOUS_SECRETS_MAX: usize = 4;

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

/// A secret that rotation replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousSecret {
    /// Which one.
    pub generation: u32,
    /// Until when it signs beside the present one.
    pub valid_until: Timestamp,
}

/// A webhook as its events have left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// The organization whose events it is told of; all events if none.
    pub organization_id: Option<OrganizationId>,
    /// Where messages go.
    pub url: WebhookUrl,
    /// What it is told of; everything if empty.
    pub event_types: Vec<MessageType>,
    /// Which secret signs.
    pub generation: u32,
    /// The secrets that sign too, for a while.
    pub previous_secrets: Vec<PreviousSecret>,
    /// Why nothing is delivered, if nothing is.
    pub disabled: Option<DisableReason>,
    /// The position of its first event: it is told of what came after.
    pub registered_at: Position,
    /// When it was registered.
    pub created_at: Timestamp,
    /// The id of the actor who registered it.
    pub created_by: Arc<str>,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// How many events it has.
    pub version: Version,
}

impl Webhook {
    /// Whether messages are delivered.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.deleted_at.is_none() && self.disabled.is_none()
    }

    /// Whether it is told of messages of a kind.
    #[must_use]
    pub fn wants(&self, message_type: &str) -> bool {
        self.event_types.is_empty() || self.event_types.iter().any(|it| it.as_str() == message_type)
    }

    /// The generations of the secrets that sign at `now`, the present one first.
    pub fn generations(&self, now: Timestamp) -> impl Iterator<Item = u32> {
        let previous = self.previous_secrets.iter().rev().filter(move |it| now < it.valid_until);
        std::iter::once(self.generation).chain(previous.map(|it| it.generation))
    }

    /// The webhook after `record`, which must be of its stream; `None` comes back when it does not fit.
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

    /// No secret that was replaced before signs for longer than the one that is replaced now.
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

/// Says what `command` leads to: the events to append, none when nothing changes. `organization` is the one that the
/// webhook is to be bound to.
///
/// # Errors
/// The rule that refuses the command.
pub fn decide(
    webhook: Option<&Webhook>,
    organization: Option<&Organization>,
    command: &WebhookCommand,
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let webhook = match (webhook, command) {
        (None, WebhookCommand::Register { organization_id, facts }) => {
            if organization_id.is_some() {
                let organization = organization.ok_or(Rejection::OrganizationUnknown)?;
                if organization.deleted_at.is_some() {
                    return Err(Rejection::OrganizationDeleted);
                }
            }
            return Ok(vec![Event::WebhookRegistered(facts.clone(), ())]);
        }
        (None, _) => return Err(Rejection::WebhookUnknown),
        (Some(_), WebhookCommand::Register { .. }) => return Err(Rejection::WebhookExists),
        (Some(webhook), _) => webhook,
    };
    if webhook.deleted_at.is_some() {
        return Err(Rejection::WebhookDeleted);
    }
    let disabled = |reason| Event::WebhookDisabled(WebhookDisabled { reason }, ());
    let mut events = Vec::new();
    match command {
        WebhookCommand::Register { .. } => {}
        WebhookCommand::Edit { url, event_types, enabled } => {
            if let Some(url) = url.as_ref().filter(|url| **url != webhook.url) {
                events.push(Event::WebhookUrlChanged(WebhookUrlChanged { url: url.clone() }, ()));
            }
            let others = |it: &&Vec<MessageType>| !is_same_set(it, &webhook.event_types);
            if let Some(event_types) = event_types.as_ref().filter(others) {
                let facts = WebhookEventTypesChanged { event_types: event_types.clone() };
                events.push(Event::WebhookEventTypesChanged(facts, ()));
            }
            match enabled {
                Some(true) if webhook.disabled.is_some() => events.push(Event::WebhookEnabled((), ())),
                Some(false) if webhook.disabled.is_none() => events.push(disabled(DisableReason::Requested)),
                _ => {}
            }
        }
        WebhookCommand::RotateSecret { overlap_millis } => {
            let facts = WebhookSecretRotated {
                generation: webhook.generation.saturating_add(1),
                previous_valid_until: now.saturating_add_millis(*overlap_millis),
            };
            events.push(Event::WebhookSecretRotated(facts, ()));
        }
        WebhookCommand::Disable(reason) => {
            if webhook.disabled.is_none() {
                events.push(disabled(*reason));
            }
        }
        WebhookCommand::Delete => events.push(Event::WebhookDeleted((), ())),
    }
    Ok(events)
}
