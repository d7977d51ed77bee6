//! Strategies for records of every kind.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::domain::application::{
    ApplicationCreated, ApplicationPermissionsChanged, ApplicationPersonal, ApplicationSecretRotated,
};
use crate::domain::erasure::{ErasedSubject, PersonalDataErased};
use crate::domain::event::{Event, EventType};
use crate::domain::key::{
    KeyCreated, KeyCreatedPersonal, KeyDescriptionChangedPersonal, KeyExpired, KeyExpiryChanged,
    KeyMetadataChangedPersonal, KeyRenamedPersonal, KeyRevoked, KeyRevokedPersonal, KeyRotated,
    KeyScopesChanged, Owner, OwnerKind, RevocationReason,
};
use crate::domain::organization::{
    OrganizationCreated, OrganizationKind, OrganizationKindChanged, OrganizationPersonal,
};
use crate::domain::policy::{Policy, PolicyRemoved, PolicySet};
use crate::domain::portal_session::{
    EndReason, PortalSessionCreated, PortalSessionCreatedPersonal, PortalSessionEnded, PortalSessionStarted,
};
use crate::domain::portfolio::{ClientLinked, ClientUnlinked};
use crate::domain::record::{Personal, Record};
use crate::domain::resource_api::{ApiRegistered, ApiRenamed, ApiScopesChanged};
use crate::domain::root_key::{RootKeyCreated, RootKeyCreatedPersonal};
use crate::domain::stream::{StreamId, StreamKind};
use crate::domain::webhook::{
    DisableReason, MessageType, WebhookDisabled, WebhookEventTypesChanged, WebhookRegistered,
    WebhookSecretRotated, WebhookUrl, WebhookUrlChanged,
};
use crate::value::actor::{Actor, ActorKind};
use crate::value::environment::Environment;
use crate::value::id::{
    ApiId, ApplicationId, ClientLinkId, ErasureId, EventId, KeyId, OrganizationId, PortalSessionId,
    RootKeyId, WebhookId,
};
use crate::value::permission::Permission;
use crate::value::position::{Position, Version};
use crate::value::role::Role;
use crate::value::subject::SubjectKeyId;
use crate::value::text::{Audience, Description, Metadata, Name, Note, Scope, UserId};
use crate::value::time::Timestamp;
use crate::value::token::{Digest, TokenHint, TokenPrefix};

/// Any value of a stored enum.
macro_rules! stored {
    ($set:ty) => {
        proptest::sample::select(<$set>::names().collect::<Vec<_>>())
            .prop_map(|name| name.parse::<$set>().unwrap())
    };
}

/// Any text that the type accepts.
macro_rules! text {
    ($text:ty) => {
        any::<String>().prop_filter_map("not accepted", |text| <$text>::new(&text).ok())
    };
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis)
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

fn hint() -> impl Strategy<Value = TokenHint> {
    (any::<String>(), any::<String>())
        .prop_map(|(start, last)| TokenHint { start: start.into(), last_four: last.into() })
}

fn scopes() -> impl Strategy<Value = Vec<Scope>> {
    vec("[!#-\\[\\]-~]{1,128}".prop_map(|scope| Scope::new(&scope).unwrap()), 0..6)
}

fn metadata() -> impl Strategy<Value = Metadata> {
    proptest::collection::hash_map(any::<String>(), any::<Option<i32>>(), 0..5)
        .prop_map(|members| Metadata::new(&serde_json::to_value(members).unwrap()).unwrap())
}

fn organization_id() -> impl Strategy<Value = OrganizationId> {
    "[A-Za-z0-9_-]{1,64}".prop_map(|id| id.parse().unwrap())
}

fn event(event_type: EventType) -> BoxedStrategy<Event> {
    match event_type {
        EventType::KeyCreated => key_created().boxed(),
        EventType::KeyRenamed => key_renamed().boxed(),
        EventType::KeyDescriptionChanged => key_description_changed().boxed(),
        EventType::KeyMetadataChanged => key_metadata_changed().boxed(),
        EventType::KeyScopesChanged => key_scopes_changed().boxed(),
        EventType::KeyExpiryChanged => key_expiry_changed().boxed(),
        EventType::KeyRevoked => key_revoked().boxed(),
        EventType::KeyReactivated => Just(Event::KeyReactivated((), ())).boxed(),
        EventType::KeyRotated => key_rotated().boxed(),
        EventType::KeyExpired => key_expired().boxed(),
        EventType::KeyDeleted => Just(Event::KeyDeleted((), ())).boxed(),
        EventType::OrganizationCreated => organization_created().boxed(),
        EventType::OrganizationRenamed => organization_renamed().boxed(),
        EventType::OrganizationKindChanged => organization_kind_changed().boxed(),
        EventType::OrganizationDeleted => Just(Event::OrganizationDeleted((), ())).boxed(),
        EventType::PolicySet => policy_set().boxed(),
        EventType::PolicyRemoved => policy_removed().boxed(),
        EventType::ClientLinked => client_linked().boxed(),
        EventType::ClientUnlinked => client_unlinked().boxed(),
        EventType::ApiRegistered => api_registered().boxed(),
        EventType::ApiRenamed => api_renamed().boxed(),
        EventType::ApiScopesChanged => api_scopes_changed().boxed(),
        EventType::ApiDeleted => Just(Event::ApiDeleted((), ())).boxed(),
        EventType::RootKeyCreated => root_key_created().boxed(),
        EventType::RootKeyRevoked => Just(Event::RootKeyRevoked((), ())).boxed(),
        EventType::ApplicationCreated => application_created().boxed(),
        EventType::ApplicationRenamed => application_renamed().boxed(),
        EventType::ApplicationPermissionsChanged => application_permissions_changed().boxed(),
        EventType::ApplicationSecretRotated => application_secret_rotated().boxed(),
        EventType::ApplicationDeleted => Just(Event::ApplicationDeleted((), ())).boxed(),
        EventType::PortalSessionCreated => portal_session_created().boxed(),
        EventType::PortalSessionStarted => portal_session_started().boxed(),
        EventType::PersonalDataErased => personal_data_erased().boxed(),
        EventType::PortalSessionEnded => portal_session_ended().boxed(),
        EventType::WebhookRegistered => webhook_registered().boxed(),
        EventType::WebhookUrlChanged => webhook_url_changed().boxed(),
        EventType::WebhookEventTypesChanged => webhook_event_types_changed().boxed(),
        EventType::WebhookSecretRotated => webhook_secret_rotated().boxed(),
        EventType::WebhookDisabled => webhook_disabled().boxed(),
        EventType::WebhookEnabled => Just(Event::WebhookEnabled((), ())).boxed(),
        EventType::WebhookDeleted => Just(Event::WebhookDeleted((), ())).boxed(),
    }
}

pub(super) fn user_id() -> impl Strategy<Value = UserId> {
    text!(UserId)
}

fn name() -> impl Strategy<Value = Option<Name>> {
    option::of(text!(Name))
}

fn organization_personal() -> impl Strategy<Value = OrganizationPersonal> {
    name().prop_map(|name| OrganizationPersonal { name })
}

fn key_created() -> impl Strategy<Value = Event> {
    (
        (
            digest(),
            hint(),
            stored!(Environment),
            (stored!(OwnerKind), option::of(organization_id())),
            option::of(any::<u128>().prop_map(ApiId::from_u128)),
            scopes(),
            option::of(time()),
        ),
        (option::of(user_id()), name(), option::of(text!(Description)), option::of(metadata())),
    )
        .prop_map(|(facts, (user_id, name, description, metadata))| {
            let (digest, hint, environment, (kind, client_id), api_id, scopes, expires_at) = facts;
            let owner = Owner { kind, client_id };
            Event::KeyCreated(
                KeyCreated { digest, hint, environment, owner, api_id, scopes, expires_at },
                KeyCreatedPersonal { user_id, name, description, metadata },
            )
        })
}

fn key_renamed() -> impl Strategy<Value = Event> {
    name().prop_map(|name| Event::KeyRenamed((), KeyRenamedPersonal { name }))
}

fn key_description_changed() -> impl Strategy<Value = Event> {
    option::of(text!(Description)).prop_map(|description| {
        Event::KeyDescriptionChanged((), KeyDescriptionChangedPersonal { description })
    })
}

fn key_metadata_changed() -> impl Strategy<Value = Event> {
    option::of(metadata())
        .prop_map(|metadata| Event::KeyMetadataChanged((), KeyMetadataChangedPersonal { metadata }))
}

fn key_scopes_changed() -> impl Strategy<Value = Event> {
    scopes().prop_map(|scopes| Event::KeyScopesChanged(KeyScopesChanged { scopes }, ()))
}

fn key_expiry_changed() -> impl Strategy<Value = Event> {
    option::of(time()).prop_map(|expires_at| Event::KeyExpiryChanged(KeyExpiryChanged { expires_at }, ()))
}

fn key_revoked() -> impl Strategy<Value = Event> {
    (stored!(RevocationReason), option::of(text!(Note)))
        .prop_map(|(reason, note)| Event::KeyRevoked(KeyRevoked { reason }, KeyRevokedPersonal { note }))
}

fn key_rotated() -> impl Strategy<Value = Event> {
    (digest(), hint(), time()).prop_map(|(digest, hint, previous_valid_until)| {
        Event::KeyRotated(KeyRotated { digest, hint, previous_valid_until }, ())
    })
}

fn key_expired() -> impl Strategy<Value = Event> {
    time().prop_map(|expires_at| Event::KeyExpired(KeyExpired { expires_at }, ()))
}

fn organization_created() -> impl Strategy<Value = Event> {
    (stored!(OrganizationKind), organization_personal())
        .prop_map(|(kind, personal)| Event::OrganizationCreated(OrganizationCreated { kind }, personal))
}

fn organization_renamed() -> impl Strategy<Value = Event> {
    organization_personal().prop_map(|personal| Event::OrganizationRenamed((), personal))
}

fn organization_kind_changed() -> impl Strategy<Value = Event> {
    stored!(OrganizationKind)
        .prop_map(|kind| Event::OrganizationKindChanged(OrganizationKindChanged { kind }, ()))
}

fn policy_set() -> impl Strategy<Value = Event> {
    (
        stored!(Environment),
        (
            option::of(any::<u64>()),
            any::<bool>(),
            option::of(any::<u32>()),
            option::of(scopes()),
            any::<bool>(),
        ),
    )
        .prop_map(|(environment, (lifetime, expiry_required, keys, allowed_scopes, name_required))| {
            let policy = Policy {
                max_lifetime_seconds: lifetime,
                expiry_required,
                max_keys_per_user: keys,
                allowed_scopes,
                name_required,
            };
            Event::PolicySet(PolicySet { environment, policy }, ())
        })
}

fn policy_removed() -> impl Strategy<Value = Event> {
    stored!(Environment).prop_map(|environment| Event::PolicyRemoved(PolicyRemoved { environment }, ()))
}

fn client_linked() -> impl Strategy<Value = Event> {
    organization_id().prop_map(|client_id| Event::ClientLinked(ClientLinked { client_id }, ()))
}

fn client_unlinked() -> impl Strategy<Value = Event> {
    organization_id().prop_map(|client_id| Event::ClientUnlinked(ClientUnlinked { client_id }, ()))
}

fn api_registered() -> impl Strategy<Value = Event> {
    (text!(Name), text!(Audience), "[a-j][a-z0-9]{0,15}", scopes()).prop_map(
        |(name, audience, prefix, scopes)| {
            let token_prefix = TokenPrefix::new(&prefix).unwrap();
            Event::ApiRegistered(ApiRegistered { name, audience, token_prefix, scopes }, ())
        },
    )
}

fn api_renamed() -> impl Strategy<Value = Event> {
    text!(Name).prop_map(|name| Event::ApiRenamed(ApiRenamed { name }, ()))
}

fn api_scopes_changed() -> impl Strategy<Value = Event> {
    scopes().prop_map(|scopes| Event::ApiScopesChanged(ApiScopesChanged { scopes }, ()))
}

fn root_key_created() -> impl Strategy<Value = Event> {
    (digest(), hint(), vec(stored!(Permission), 0..20), name()).prop_map(
        |(digest, hint, permissions, name)| {
            let facts = RootKeyCreated { digest, hint, permissions };
            Event::RootKeyCreated(facts, RootKeyCreatedPersonal { name })
        },
    )
}

fn application_created() -> impl Strategy<Value = Event> {
    (digest(), hint(), vec(stored!(Permission), 0..20), name()).prop_map(
        |(digest, hint, permissions, name)| {
            let facts = ApplicationCreated { digest, hint, permissions };
            Event::ApplicationCreated(facts, ApplicationPersonal { name })
        },
    )
}

fn application_renamed() -> impl Strategy<Value = Event> {
    name().prop_map(|name| Event::ApplicationRenamed((), ApplicationPersonal { name }))
}

fn application_permissions_changed() -> impl Strategy<Value = Event> {
    vec(stored!(Permission), 0..20).prop_map(|permissions| {
        Event::ApplicationPermissionsChanged(ApplicationPermissionsChanged { permissions }, ())
    })
}

fn application_secret_rotated() -> impl Strategy<Value = Event> {
    (digest(), hint()).prop_map(|(digest, hint)| {
        Event::ApplicationSecretRotated(ApplicationSecretRotated { digest, hint }, ())
    })
}

fn portal_session_created() -> impl Strategy<Value = Event> {
    (digest(), stored!(Role), time(), any::<u32>(), option::of(time()), option::of(user_id())).prop_map(
        |(digest, role, link_expires_at, lifetime_seconds, ends_by, user_id)| {
            let facts = PortalSessionCreated { digest, role, link_expires_at, lifetime_seconds, ends_by };
            Event::PortalSessionCreated(facts, PortalSessionCreatedPersonal { user_id })
        },
    )
}

fn portal_session_started() -> impl Strategy<Value = Event> {
    (digest(), time()).prop_map(|(digest, expires_at)| {
        Event::PortalSessionStarted(PortalSessionStarted { digest, expires_at }, ())
    })
}

fn personal_data_erased() -> impl Strategy<Value = Event> {
    (stored!(ErasedSubject), vec(any::<[u8; 16]>(), 0..40)).prop_map(|(subject, keys)| {
        let subject_keys = keys.into_iter().map(SubjectKeyId::from_bytes).collect();
        Event::PersonalDataErased(PersonalDataErased { subject, subject_keys }, ())
    })
}

fn portal_session_ended() -> impl Strategy<Value = Event> {
    stored!(EndReason).prop_map(|reason| Event::PortalSessionEnded(PortalSessionEnded { reason }, ()))
}

fn webhook_registered() -> impl Strategy<Value = Event> {
    (url(), message_types())
        .prop_map(|(url, event_types)| Event::WebhookRegistered(WebhookRegistered { url, event_types }, ()))
}

fn webhook_url_changed() -> impl Strategy<Value = Event> {
    url().prop_map(|url| Event::WebhookUrlChanged(WebhookUrlChanged { url }, ()))
}

fn webhook_event_types_changed() -> impl Strategy<Value = Event> {
    message_types()
        .prop_map(|event_types| Event::WebhookEventTypesChanged(WebhookEventTypesChanged { event_types }, ()))
}

fn webhook_secret_rotated() -> impl Strategy<Value = Event> {
    (any::<u32>(), time()).prop_map(|(generation, previous_valid_until)| {
        Event::WebhookSecretRotated(WebhookSecretRotated { generation, previous_valid_until }, ())
    })
}

fn webhook_disabled() -> impl Strategy<Value = Event> {
    stored!(DisableReason).prop_map(|reason| Event::WebhookDisabled(WebhookDisabled { reason }, ()))
}

fn url() -> impl Strategy<Value = WebhookUrl> {
    "https?://[a-z]{1,9}(/[!-\"$-~]{0,20})?".prop_map(|text| text.parse().unwrap())
}

fn message_types() -> impl Strategy<Value = Vec<MessageType>> {
    let names: Vec<&str> = MessageType::names().collect();
    vec(proptest::sample::select(names).prop_map(|name| name.parse().unwrap()), 0..5)
}

fn stream() -> impl Strategy<Value = StreamId> {
    let kinds: Vec<StreamKind> = StreamKind::all().collect();
    proptest::sample::select(kinds).prop_flat_map(|kind| {
        let ulid = any::<u128>;
        match kind {
            StreamKind::Key => ulid().prop_map(|id| KeyId::from_u128(id).into()).boxed(),
            StreamKind::Organization => organization_id().prop_map(StreamId::from).boxed(),
            StreamKind::Api => ulid().prop_map(|id| ApiId::from_u128(id).into()).boxed(),
            StreamKind::RootKey => ulid().prop_map(|id| RootKeyId::from_u128(id).into()).boxed(),
            StreamKind::ClientLink => (organization_id(), organization_id())
                .prop_map(|(partner_id, client_id)| ClientLinkId { partner_id, client_id }.into())
                .boxed(),
            StreamKind::Application => ulid().prop_map(|id| ApplicationId::from_u128(id).into()).boxed(),
            StreamKind::PortalSession => ulid().prop_map(|id| PortalSessionId::from_u128(id).into()).boxed(),
            StreamKind::Webhook => ulid().prop_map(|id| WebhookId::from_u128(id).into()).boxed(),
            StreamKind::Erasure => ulid().prop_map(|id| ErasureId::from_u128(id).into()).boxed(),
        }
    })
}

fn actor() -> impl Strategy<Value = Actor> {
    (stored!(ActorKind), any::<String>(), option::of(any::<IpAddr>()), option::of(any::<String>())).prop_map(
        |(kind, id, ip, user_agent)| Actor {
            kind,
            id: id.into(),
            ip,
            user_agent: user_agent.map(Into::into),
        },
    )
}

pub(super) fn record() -> impl Strategy<Value = Record> {
    let event = proptest::sample::select(EventType::ALL).prop_flat_map(event);
    let event_id = || any::<u128>().prop_map(EventId::from_u128);
    (
        (any::<u64>(), event_id(), time(), stream(), any::<u32>(), option::of(organization_id())),
        (actor(), option::of(any::<String>()), option::of(event_id()), event),
    )
        .prop_map(
            |(
                (position, id, time, stream, version, organization_id),
                (actor, request_id, causation, event),
            )| {
                Record {
                    position: Position::new(position),
                    id,
                    time,
                    stream,
                    version: Version::new(version),
                    organization_id,
                    actor,
                    request_id: request_id.map(Into::into),
                    causation,
                    event,
                    personal: Personal::Readable,
                }
            },
        )
}
