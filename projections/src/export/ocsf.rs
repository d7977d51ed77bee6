//! Events as OCSF 1.8.0 Entity Management events (<https://schema.ocsf.io/1.8.0/classes/entity_management>).
//! The entity is the aggregate of the event.

use keyledger_engine::domain::event::EventType;
use keyledger_engine::domain::record::Record;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::value::actor::ActorKind;
use serde_json::{Value, json};

use super::{not_empty, present};
use crate::audit_trail::event_json;

/// The version of OCSF that all events follow.
pub const SCHEMA_VERSION: &str = "1.8.0";
const CATEGORY: (u32, &str) = (3, "Identity & Access Management");
const CLASS: (u32, &str) = (3004, "Entity Management");
/// The name of the product in events.
pub const PRODUCT: &str = "Keyledger";
/// `type_id` of an entity that OCSF has no number for.
const OTHER: u32 = 99;
const ORGANIZATION: u32 = 4;

/// What is done to an entity, with OCSF's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    Create = 1,
    Update = 3,
    Delete = 4,
    Enroll = 6,
    Unenroll = 7,
    Enable = 8,
    Disable = 9,
    Activate = 10,
    Deactivate = 11,
}

impl Activity {
    const fn of(event_type: EventType) -> Self {
        match event_type {
            EventType::KeyCreated
            | EventType::OrganizationCreated
            | EventType::ApiRegistered
            | EventType::RootKeyCreated
            | EventType::ApplicationCreated
            | EventType::PortalSessionCreated
            | EventType::PersonalDataErased
            | EventType::WebhookRegistered => Self::Create,
            EventType::KeyRenamed
            | EventType::KeyDescriptionChanged
            | EventType::KeyMetadataChanged
            | EventType::KeyScopesChanged
            | EventType::KeyExpiryChanged
            | EventType::KeyRotated
            | EventType::OrganizationRenamed
            | EventType::OrganizationKindChanged
            | EventType::PolicySet
            | EventType::PolicyRemoved
            | EventType::ApiRenamed
            | EventType::ApiScopesChanged
            | EventType::ApplicationRenamed
            | EventType::ApplicationPermissionsChanged
            | EventType::ApplicationSecretRotated
            | EventType::WebhookUrlChanged
            | EventType::WebhookEventTypesChanged
            | EventType::WebhookSecretRotated => Self::Update,
            EventType::KeyDeleted
            | EventType::OrganizationDeleted
            | EventType::ApiDeleted
            | EventType::ApplicationDeleted
            | EventType::WebhookDeleted => Self::Delete,
            EventType::ClientLinked => Self::Enroll,
            EventType::ClientUnlinked => Self::Unenroll,
            EventType::KeyReactivated | EventType::WebhookEnabled => Self::Enable,
            EventType::KeyRevoked | EventType::RootKeyRevoked | EventType::WebhookDisabled => Self::Disable,
            EventType::PortalSessionStarted => Self::Activate,
            EventType::KeyExpired | EventType::PortalSessionEnded => Self::Deactivate,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "Create",
            Self::Update => "Update",
            Self::Delete => "Delete",
            Self::Enroll => "Enroll",
            Self::Unenroll => "Unenroll",
            Self::Enable => "Enable",
            Self::Disable => "Disable",
            Self::Activate => "Activate",
            Self::Deactivate => "Deactivate",
        }
    }
}

/// Converts an event to an OCSF event. The event's data is in the entity's `data`; for an update it is in
/// that of `entity_result`, because it describes what the entity has become.
#[must_use]
pub fn ocsf_event(record: &Record) -> Value {
    let event_type = record.event.event_type();
    let activity = Activity::of(event_type);
    let mut data = event_json(record).get_mut("data").map(Value::take).unwrap_or_default();
    // The note goes into `comment`.
    let comment = data.as_object_mut().and_then(|data| data.shift_remove("note"));
    let data = not_empty(data);
    let (entity, entity_result) = match activity {
        Activity::Update => (entity(record, Value::Null), entity(record, data)),
        _ => (entity(record, data), Value::Null),
    };
    let (class_uid, class_name) = CLASS;
    let (category_uid, category_name) = CATEGORY;
    let activity_id = activity as u32;
    present(json!({
        "activity_id": activity_id,
        "activity_name": activity.as_str(),
        "category_uid": category_uid,
        "category_name": category_name,
        "class_uid": class_uid,
        "class_name": class_name,
        "type_uid": class_uid * 100 + activity_id,
        "type_name": format!("{class_name}: {}", activity.as_str()),
        "severity_id": 1,
        "severity": "Informational",
        "status_id": 1,
        "status": "Success",
        "time": record.time.millis(),
        "message": event_type.as_str(),
        "metadata": present(json!({
            "version": SCHEMA_VERSION,
            "product": { "name": PRODUCT, "vendor_name": PRODUCT },
            "uid": record.id.to_string(),
            "event_code": event_type.as_str(),
            "log_version": event_type.schema().to_string(),
            "sequence": record.position.get(),
            "original_time": record.time.to_string(),
            "correlation_uid": record.request_id,
            "tenant_uid": record.organization_id.as_ref().map(|id| id.as_str()),
        })),
        "actor": ocsf_actor(record.actor.kind, &record.actor.id),
        "src_endpoint": not_empty(present(json!({ "ip": record.actor.ip.map(|ip| ip.to_string()) }))),
        "http_request": not_empty(present(json!({
            "uid": record.request_id,
            "user_agent": record.actor.user_agent,
        }))),
        "entity": entity,
        "entity_result": entity_result,
        "comment": comment,
    }))
}

fn entity(record: &Record, data: Value) -> Value {
    let uid = record.stream.to_string();
    let name = data.get("name").cloned().unwrap_or_default();
    let (type_id, type_name) = match &record.stream {
        StreamId::Key(_) => (OTHER, "API Key"),
        StreamId::Organization(_) => (ORGANIZATION, "Organization"),
        StreamId::Api(_) => (OTHER, "API"),
        StreamId::RootKey(_) => (OTHER, "Root Key"),
        StreamId::Application(_) => (OTHER, "Application"),
        StreamId::ClientLink(_) => (OTHER, "Client Link"),
        StreamId::PortalSession(_) => (OTHER, "Portal Session"),
        StreamId::Erasure(_) => (OTHER, "Erasure"),
        StreamId::Webhook(_) => (OTHER, "Webhook"),
    };
    let organization =
        (type_id == ORGANIZATION).then(|| present(json!({ "uid": uid.clone(), "name": name.clone() })));
    present(json!({
        "type_id": type_id,
        "type": type_name,
        "uid": uid,
        "name": name,
        "version": record.version.get().to_string(),
        "org": organization,
        "data": data,
    }))
}

/// Converts who did something to an OCSF actor. People are users, sessions are sessions, and programs are
/// applications.
#[must_use]
pub fn ocsf_actor(kind: ActorKind, id: &str) -> Value {
    match kind {
        ActorKind::User => json!({ "user": { "uid": id } }),
        ActorKind::PortalSession => json!({ "session": { "uid": id } }),
        ActorKind::System => json!({ "app_name": PRODUCT, "app_uid": id }),
        ActorKind::RootKey => json!({ "app_name": "Root Key", "app_uid": id }),
        ActorKind::Application => json!({ "app_name": "Application", "app_uid": id }),
        ActorKind::Key => json!({ "app_name": "API Key", "app_uid": id }),
    }
}
