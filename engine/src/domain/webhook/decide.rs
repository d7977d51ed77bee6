//! The rules of a webhook: the events that each command leads to in each state.

use crate::domain::decision::{Context, Decide, Reads};
use crate::domain::event::Event;
use crate::domain::organization::Organization;
use crate::domain::rejection::Rejection;
use crate::domain::webhook::{
    DisableReason, MessageType, Webhook, WebhookCommand, WebhookDisabled, WebhookEventTypesChanged,
    WebhookSecretRotated, WebhookUrlChanged,
};
use crate::value::id::{OrganizationId, WebhookId};
use crate::value::text::is_same_set;
use crate::value::time::Timestamp;

impl Decide for Webhook {
    fn organization_id<'a>(
        _id: &'a WebhookId,
        webhook: Option<&'a Self>,
        command: &'a WebhookCommand,
    ) -> Option<&'a OrganizationId> {
        match (webhook, command) {
            (Some(webhook), _) => webhook.organization_id.as_ref(),
            (None, WebhookCommand::Register { organization_id, .. }) => organization_id.as_ref(),
            (None, _) => None,
        }
    }

    fn reads<'a>(id: &'a WebhookId, webhook: Option<&'a Self>, command: &'a WebhookCommand) -> Reads<'a> {
        Reads::organization(Self::organization_id(id, webhook, command))
    }

    fn decide(
        _id: &WebhookId,
        webhook: Option<&Self>,
        command: &WebhookCommand,
        context: &Context<'_>,
        now: Timestamp,
    ) -> Result<Vec<Event>, Rejection> {
        decide(webhook, context.organization, command, now)
    }
}

/// Returns the events that `command` leads to, none when nothing changes. `organization` is the one that a
/// new webhook will be bound to.
///
/// # Errors
/// The rule that rejects the command.
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
