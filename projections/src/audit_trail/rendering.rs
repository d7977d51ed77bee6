//! The JSON form of an event, for people and other programs. It never includes a token's digest.

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::{KeyCreated, KeyCreatedPersonal};
use keyledger_engine::domain::record::{Personal, Record};
use keyledger_engine::value::text::Metadata;
use keyledger_engine::value::token::TokenHint;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Converts an event to a JSON object: position, time, actor, and under `data` the content, facts and
/// personal part together. Absent values are `null`. If the personal part was erased, its values are `null`
/// and `data` has `"erased": true`.
#[must_use]
pub fn event_json(record: &Record) -> Value {
    let event_type = record.event.event_type();
    let mut data = data(&record.event);
    if let (Personal::Erased, Some(data)) = (record.personal, data.as_object_mut()) {
        data.insert("erased".into(), true.into());
    }
    json!({
        "position": record.position.get(),
        "id": record.id.to_string(),
        "time": record.time.to_string(),
        "type": event_type.as_str(),
        "schema": event_type.schema(),
        "stream": { "kind": record.stream.kind().as_str(), "id": record.stream.to_string() },
        "version": record.version.get(),
        "key_id": record.stream.key_id().map(|id| id.to_string()),
        "organization_id": record.organization_id.as_ref().map(|id| id.as_str()),
        "actor": {
            "kind": record.actor.kind.as_str(),
            "id": record.actor.id,
            "ip": record.actor.ip.map(|ip| ip.to_string()),
            "user_agent": record.actor.user_agent,
        },
        "request_id": record.request_id,
        "causation_id": record.causation.map(|id| id.to_string()),
        "data": data,
    })
}

fn data(event: &Event) -> Value {
    match event {
        Event::KeyCreated(facts, personal) => key_created(facts, personal),
        Event::KeyRenamed((), personal) => json!({ "name": personal.name }),
        Event::KeyDescriptionChanged((), personal) => json!({ "description": personal.description }),
        Event::KeyMetadataChanged((), personal) => {
            json!({ "metadata": metadata(personal.metadata.as_ref()) })
        }
        Event::KeyScopesChanged(facts, ()) => json!({ "scopes": facts.scopes }),
        Event::KeyExpiryChanged(facts, ()) => json!({ "expires_at": facts.expires_at }),
        Event::KeyRevoked(facts, personal) => json!({ "reason": facts.reason, "note": personal.note }),
        Event::KeyRotated(facts, ()) => {
            with_hint(&facts.hint, [("previous_valid_until", value(&facts.previous_valid_until))])
        }
        Event::KeyExpired(facts, ()) => json!({ "expires_at": facts.expires_at }),
        Event::OrganizationCreated(facts, personal) => json!({ "name": personal.name, "kind": facts.kind }),
        Event::OrganizationRenamed((), personal) => json!({ "name": personal.name }),
        Event::OrganizationKindChanged(facts, ()) => json!({ "kind": facts.kind }),
        Event::PolicySet(facts, ()) => json!({ "environment": facts.environment, "policy": facts.policy }),
        Event::PolicyRemoved(facts, ()) => json!({ "environment": facts.environment }),
        Event::ClientLinked(facts, ()) => json!({ "client_organization_id": facts.client_id }),
        Event::ClientUnlinked(facts, ()) => json!({ "client_organization_id": facts.client_id }),
        Event::ApiRegistered(facts, ()) => json!({
            "name": facts.name,
            "audience": facts.audience,
            "token_prefix": facts.token_prefix.as_str(),
            "scopes": facts.scopes,
        }),
        Event::ApiRenamed(facts, ()) => json!({ "name": facts.name }),
        Event::ApiScopesChanged(facts, ()) => json!({ "scopes": facts.scopes }),
        Event::RootKeyCreated(facts, personal) => with_hint(
            &facts.hint,
            [("name", value(&personal.name)), ("permissions", value(&facts.permissions))],
        ),
        Event::ApplicationCreated(facts, personal) => with_hint(
            &facts.hint,
            [("name", value(&personal.name)), ("permissions", value(&facts.permissions))],
        ),
        Event::ApplicationRenamed((), personal) => json!({ "name": personal.name }),
        Event::ApplicationPermissionsChanged(facts, ()) => json!({ "permissions": facts.permissions }),
        Event::ApplicationSecretRotated(facts, ()) => with_hint(&facts.hint, []),
        Event::PortalSessionCreated(facts, personal) => json!({
            "user_id": personal.user_id,
            "role": facts.role,
            "link_expires_at": facts.link_expires_at,
            "lifetime_seconds": facts.lifetime_seconds,
            "ends_by": facts.ends_by,
        }),
        Event::PortalSessionStarted(facts, ()) => json!({ "expires_at": facts.expires_at }),
        Event::PortalSessionEnded(facts, ()) => json!({ "reason": facts.reason }),
        Event::PersonalDataErased(facts, ()) => {
            json!({ "subject": facts.subject, "subject_keys": facts.subject_keys })
        }
        Event::WebhookRegistered(facts, ()) => {
            json!({ "url": facts.url, "event_types": facts.event_types })
        }
        Event::WebhookUrlChanged(facts, ()) => json!({ "url": facts.url }),
        Event::WebhookEventTypesChanged(facts, ()) => json!({ "event_types": facts.event_types }),
        Event::WebhookSecretRotated(facts, ()) => json!({
            "generation": facts.generation,
            "previous_valid_until": facts.previous_valid_until,
        }),
        Event::WebhookDisabled(facts, ()) => json!({ "reason": facts.reason }),
        Event::KeyReactivated((), ())
        | Event::KeyDeleted((), ())
        | Event::OrganizationDeleted((), ())
        | Event::ApiDeleted((), ())
        | Event::RootKeyRevoked((), ())
        | Event::ApplicationDeleted((), ())
        | Event::WebhookEnabled((), ())
        | Event::WebhookDeleted((), ()) => json!({}),
    }
}

fn key_created(facts: &KeyCreated, personal: &KeyCreatedPersonal) -> Value {
    // Destructured, so that a field added to the event is neither forgotten nor shown without a decision.
    let KeyCreated { digest: _, hint, environment, owner, api_id, scopes, expires_at } = facts;
    let KeyCreatedPersonal { user_id, name, description, metadata: metadata_text } = personal;
    with_hint(
        hint,
        [
            ("user_id", value(user_id)),
            ("name", value(name)),
            ("description", value(description)),
            ("metadata", metadata(metadata_text.as_ref())),
            ("environment", value(environment)),
            ("owner", value(owner)),
            ("api_id", value(api_id)),
            ("scopes", value(scopes)),
            ("expires_at", value(expires_at)),
        ],
    )
}

fn with_hint<const N: usize>(hint: &TokenHint, fields: [(&str, Value); N]) -> Value {
    let hint = [("start", value(&hint.start)), ("last_four", value(&hint.last_four))];
    let all = fields.into_iter().chain(hint).map(|(name, value)| (name.to_owned(), value));
    Value::Object(all.collect::<Map<_, _>>())
}

fn value(field: &impl Serialize) -> Value {
    serde_json::to_value(field).unwrap_or_default()
}

fn metadata(metadata: Option<&Metadata>) -> Value {
    metadata.and_then(|metadata| serde_json::from_str(metadata.as_json()).ok()).unwrap_or_default()
}
