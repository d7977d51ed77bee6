//! Records of every kind become bytes and come back; bytes that are no record never do more than fail.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{ENTRY_LEN_MAX, Error, decode, decode_with, encode, encode_with};
use crate::domain::application::{
    ApplicationCreated, ApplicationPermissionsChanged, ApplicationPersonal, ApplicationSecretRotated,
};
use crate::domain::erasure::{ErasedSubject, PersonalDataErased};
use crate::domain::event::{Event, EventParts, EventType};
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
use crate::domain::stream::StreamId;
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
use crate::value::text::{Audience, Description, Metadata, Name, Note, Scope, UserId};
use crate::value::time::Timestamp;
use crate::value::token::{Digest, TokenHint, TokenPrefix};
use crate::vault::{Subject, SubjectKeyId, Vault};

/// Any value of a closed set.
macro_rules! stored {
    ($set:ty) => {
        proptest::sample::select(<$set>::names().collect::<Vec<_>>())
            .prop_map(|name| name.parse::<$set>().unwrap())
    };
}

/// Any text that the type takes.
macro_rules! text {
    ($text:ty) => {
        any::<String>().prop_filter_map("not taken", |text| <$text>::new(&text).ok())
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
    let name = || option::of(text!(Name));
    let organization = || name().prop_map(|name| OrganizationPersonal { name });
    match event_type {
        EventType::KeyCreated => (
            (
                digest(),
                hint(),
                stored!(Environment),
                (stored!(OwnerKind), option::of(organization_id())),
                option::of(any::<u128>().prop_map(ApiId::from_u128)),
                scopes(),
                option::of(time()),
            ),
            (option::of(text!(UserId)), name(), option::of(text!(Description)), option::of(metadata())),
        )
            .prop_map(|(facts, (user_id, name, description, metadata))| {
                let (digest, hint, environment, (kind, client_id), api_id, scopes, expires_at) = facts;
                let owner = Owner { kind, client_id };
                Event::KeyCreated(
                    KeyCreated { digest, hint, environment, owner, api_id, scopes, expires_at },
                    KeyCreatedPersonal { user_id, name, description, metadata },
                )
            })
            .boxed(),
        EventType::KeyRenamed => {
            name().prop_map(|name| Event::KeyRenamed((), KeyRenamedPersonal { name })).boxed()
        }
        EventType::KeyDescriptionChanged => option::of(text!(Description))
            .prop_map(|description| {
                Event::KeyDescriptionChanged((), KeyDescriptionChangedPersonal { description })
            })
            .boxed(),
        EventType::KeyMetadataChanged => option::of(metadata())
            .prop_map(|metadata| Event::KeyMetadataChanged((), KeyMetadataChangedPersonal { metadata }))
            .boxed(),
        EventType::KeyScopesChanged => {
            scopes().prop_map(|scopes| Event::KeyScopesChanged(KeyScopesChanged { scopes }, ())).boxed()
        }
        EventType::KeyExpiryChanged => option::of(time())
            .prop_map(|expires_at| Event::KeyExpiryChanged(KeyExpiryChanged { expires_at }, ()))
            .boxed(),
        EventType::KeyRevoked => (stored!(RevocationReason), option::of(text!(Note)))
            .prop_map(|(reason, note)| Event::KeyRevoked(KeyRevoked { reason }, KeyRevokedPersonal { note }))
            .boxed(),
        EventType::KeyReactivated => Just(Event::KeyReactivated((), ())).boxed(),
        EventType::KeyRotated => (digest(), hint(), time())
            .prop_map(|(digest, hint, previous_valid_until)| {
                Event::KeyRotated(KeyRotated { digest, hint, previous_valid_until }, ())
            })
            .boxed(),
        EventType::KeyExpired => {
            time().prop_map(|expires_at| Event::KeyExpired(KeyExpired { expires_at }, ())).boxed()
        }
        EventType::KeyDeleted => Just(Event::KeyDeleted((), ())).boxed(),
        EventType::OrganizationCreated => (stored!(OrganizationKind), organization())
            .prop_map(|(kind, personal)| Event::OrganizationCreated(OrganizationCreated { kind }, personal))
            .boxed(),
        EventType::OrganizationRenamed => {
            organization().prop_map(|personal| Event::OrganizationRenamed((), personal)).boxed()
        }
        EventType::OrganizationKindChanged => stored!(OrganizationKind)
            .prop_map(|kind| Event::OrganizationKindChanged(OrganizationKindChanged { kind }, ()))
            .boxed(),
        EventType::OrganizationDeleted => Just(Event::OrganizationDeleted((), ())).boxed(),
        EventType::PolicySet => (
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
            .boxed(),
        EventType::PolicyRemoved => stored!(Environment)
            .prop_map(|environment| Event::PolicyRemoved(PolicyRemoved { environment }, ()))
            .boxed(),
        EventType::ClientLinked => organization_id()
            .prop_map(|client_id| Event::ClientLinked(ClientLinked { client_id }, ()))
            .boxed(),
        EventType::ClientUnlinked => organization_id()
            .prop_map(|client_id| Event::ClientUnlinked(ClientUnlinked { client_id }, ()))
            .boxed(),
        EventType::ApiRegistered => (text!(Name), text!(Audience), "[a-j][a-z0-9]{0,15}", scopes())
            .prop_map(|(name, audience, prefix, scopes)| {
                let token_prefix = TokenPrefix::new(&prefix).unwrap();
                Event::ApiRegistered(ApiRegistered { name, audience, token_prefix, scopes }, ())
            })
            .boxed(),
        EventType::ApiRenamed => {
            text!(Name).prop_map(|name| Event::ApiRenamed(ApiRenamed { name }, ())).boxed()
        }
        EventType::ApiScopesChanged => {
            scopes().prop_map(|scopes| Event::ApiScopesChanged(ApiScopesChanged { scopes }, ())).boxed()
        }
        EventType::ApiDeleted => Just(Event::ApiDeleted((), ())).boxed(),
        EventType::RootKeyCreated => (digest(), hint(), vec(stored!(Permission), 0..20), name())
            .prop_map(|(digest, hint, permissions, name)| {
                let facts = RootKeyCreated { digest, hint, permissions };
                Event::RootKeyCreated(facts, RootKeyCreatedPersonal { name })
            })
            .boxed(),
        EventType::RootKeyRevoked => Just(Event::RootKeyRevoked((), ())).boxed(),
        EventType::ApplicationCreated => (digest(), hint(), vec(stored!(Permission), 0..20), name())
            .prop_map(|(digest, hint, permissions, name)| {
                let facts = ApplicationCreated { digest, hint, permissions };
                Event::ApplicationCreated(facts, ApplicationPersonal { name })
            })
            .boxed(),
        EventType::ApplicationRenamed => {
            name().prop_map(|name| Event::ApplicationRenamed((), ApplicationPersonal { name })).boxed()
        }
        EventType::ApplicationPermissionsChanged => vec(stored!(Permission), 0..20)
            .prop_map(|permissions| {
                Event::ApplicationPermissionsChanged(ApplicationPermissionsChanged { permissions }, ())
            })
            .boxed(),
        EventType::ApplicationSecretRotated => (digest(), hint())
            .prop_map(|(digest, hint)| {
                Event::ApplicationSecretRotated(ApplicationSecretRotated { digest, hint }, ())
            })
            .boxed(),
        EventType::ApplicationDeleted => Just(Event::ApplicationDeleted((), ())).boxed(),
        EventType::PortalSessionCreated => {
            (digest(), stored!(Role), time(), any::<u32>(), option::of(text!(UserId)))
                .prop_map(|(digest, role, link_expires_at, lifetime_seconds, user_id)| {
                    let facts = PortalSessionCreated { digest, role, link_expires_at, lifetime_seconds };
                    Event::PortalSessionCreated(facts, PortalSessionCreatedPersonal { user_id })
                })
                .boxed()
        }
        EventType::PortalSessionStarted => (digest(), time())
            .prop_map(|(digest, expires_at)| {
                Event::PortalSessionStarted(PortalSessionStarted { digest, expires_at }, ())
            })
            .boxed(),
        EventType::PersonalDataErased => (stored!(ErasedSubject), vec(any::<[u8; 16]>(), 0..40))
            .prop_map(|(subject, keys)| {
                let subject_keys = keys.into_iter().map(SubjectKeyId::from_bytes).collect();
                Event::PersonalDataErased(PersonalDataErased { subject, subject_keys }, ())
            })
            .boxed(),
        EventType::PortalSessionEnded => stored!(EndReason)
            .prop_map(|reason| Event::PortalSessionEnded(PortalSessionEnded { reason }, ()))
            .boxed(),
        EventType::WebhookRegistered => (url(), message_types())
            .prop_map(|(url, event_types)| {
                Event::WebhookRegistered(WebhookRegistered { url, event_types }, ())
            })
            .boxed(),
        EventType::WebhookUrlChanged => {
            url().prop_map(|url| Event::WebhookUrlChanged(WebhookUrlChanged { url }, ())).boxed()
        }
        EventType::WebhookEventTypesChanged => message_types()
            .prop_map(|event_types| {
                Event::WebhookEventTypesChanged(WebhookEventTypesChanged { event_types }, ())
            })
            .boxed(),
        EventType::WebhookSecretRotated => (any::<u32>(), time())
            .prop_map(|(generation, previous_valid_until)| {
                Event::WebhookSecretRotated(WebhookSecretRotated { generation, previous_valid_until }, ())
            })
            .boxed(),
        EventType::WebhookDisabled => stored!(DisableReason)
            .prop_map(|reason| Event::WebhookDisabled(WebhookDisabled { reason }, ()))
            .boxed(),
        EventType::WebhookEnabled => Just(Event::WebhookEnabled((), ())).boxed(),
        EventType::WebhookDeleted => Just(Event::WebhookDeleted((), ())).boxed(),
    }
}

/// The facts of an event, as bytes.
#[derive(Default)]
struct Facts(Vec<u8>);

impl EventParts for Facts {
    type Error = rmp_serde::encode::Error;

    fn facts<T: serde::Serialize>(&mut self, facts: &T) -> Result<(), Self::Error> {
        rmp_serde::encode::write(&mut self.0, facts)
    }

    fn personal<T: serde::Serialize>(&mut self, _personal: &T) -> Result<(), Self::Error> {
        Ok(())
    }
}

fn url() -> impl Strategy<Value = WebhookUrl> {
    "https?://[a-z]{1,9}(/[!-\"$-~]{0,20})?".prop_map(|text| text.parse().unwrap())
}

fn message_types() -> impl Strategy<Value = Vec<MessageType>> {
    let names: Vec<&str> = MessageType::names().collect();
    vec(proptest::sample::select(names).prop_map(|name| name.parse().unwrap()), 0..5)
}

fn stream() -> impl Strategy<Value = StreamId> {
    prop_oneof![
        any::<u128>().prop_map(|id| StreamId::Key(KeyId::from_u128(id))),
        organization_id().prop_map(StreamId::Organization),
        any::<u128>().prop_map(|id| StreamId::Api(ApiId::from_u128(id))),
        any::<u128>().prop_map(|id| StreamId::RootKey(RootKeyId::from_u128(id))),
        any::<u128>().prop_map(|id| StreamId::Application(ApplicationId::from_u128(id))),
        (organization_id(), organization_id())
            .prop_map(|(partner_id, client_id)| StreamId::ClientLink(ClientLinkId { partner_id, client_id })),
        any::<u128>().prop_map(|id| StreamId::PortalSession(PortalSessionId::from_u128(id))),
        any::<u128>().prop_map(|id| StreamId::Erasure(ErasureId::from_u128(id))),
        any::<u128>().prop_map(|id| StreamId::Webhook(WebhookId::from_u128(id))),
    ]
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

fn record() -> impl Strategy<Value = Record> {
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_comes_back_from_its_bytes(record in record()) {
        let entry = encode(&record).unwrap();
        prop_assert!(entry.len() <= ENTRY_LEN_MAX);
        prop_assert_eq!(decode(&entry).unwrap(), record);
    }

    #[test]
    fn a_sealed_record_comes_back_while_its_key_is_there(record in record(), user in option::of(text!(UserId))) {
        let vault = Vault::in_memory().unwrap();
        let subject = Subject::of(Some(&"acme".parse().unwrap()), user.as_ref());
        let key = vault.keys_for([&subject]).unwrap().remove(0);
        let entry = encode_with(&record, Some(&key)).unwrap();
        prop_assert!(entry.len() <= ENTRY_LEN_MAX);
        prop_assert_eq!(&decode_with(&entry, Some(&vault)).unwrap(), &record);

        // Without the key everything but the personal part is what it was.
        vault.withhold(&vault.keys_of(&subject));
        vault.destroy_withheld().unwrap();
        let erased = decode_with(&entry, Some(&vault)).unwrap();
        prop_assert_eq!(&decode(&entry).unwrap(), &erased);
        if erased.personal == Personal::Readable {
            // There was nothing to seal.
            prop_assert_eq!(entry, encode(&record).unwrap());
            return Ok(());
        }
        let (actor, event) = (&erased.actor, &erased.event);
        prop_assert_eq!((actor.ip, actor.user_agent.as_deref()), (None, None));
        prop_assert_eq!((actor.kind, &actor.id), (record.actor.kind, &record.actor.id));
        prop_assert_eq!(event.event_type(), record.event.event_type());
        let facts = |event: &Event| {
            let mut facts = Facts::default();
            event.encode_parts(&mut facts).unwrap();
            facts.0
        };
        prop_assert_eq!(facts(event), facts(&record.event));
        let envelope = |record: &Record| {
            let Record { position, id, time, stream, version, organization_id, request_id, causation, .. } = record;
            (*position, *id, *time, stream.clone(), *version, organization_id.clone(), request_id.clone(), *causation)
        };
        prop_assert_eq!(envelope(&erased), envelope(&record));
    }

    /// Whatever is changed of a sealed entry, it does not read as another record than the one that was
    /// sealed.
    #[test]
    fn no_byte_of_a_sealed_entry_can_be_exchanged(record in record(), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let vault = Vault::in_memory().unwrap();
        let key = vault.keys_for([&Subject::Installation]).unwrap().remove(0);
        let mut entry = encode_with(&record, Some(&key)).unwrap();
        prop_assume!(entry != encode(&record).unwrap());
        let at = at.index(entry.len());
        entry[at] ^= flip;
        if let Ok(read) = decode_with(&entry, Some(&vault)) {
            // Only the id of the key may have been hit: then there is no such key.
            prop_assert_eq!(read.personal, Personal::Erased);
        }
    }

    /// Bytes of a text read the same as a byte string's.
    #[test]
    fn a_sealed_part_is_a_byte_string(record in record()) {
        let vault = Vault::in_memory().unwrap();
        let key = vault.keys_for([&Subject::Installation]).unwrap().remove(0);
        let (mut entry, clear) = (encode_with(&record, Some(&key)).unwrap(), encode(&record).unwrap());
        let at = entry.iter().zip(&clear).take_while(|(sealed, clear)| sealed == clear).count();
        prop_assume!(entry != clear);
        // The first difference is the length, or its kind where only the sealed part is that long.
        let at = (at.saturating_sub(2)..=at).rev().find(|at| matches!(entry[*at], 0xC4 | 0xC5)).unwrap();
        entry[at] = if entry[at] == 0xC4 { 0xD9 } else { 0xDA };
        prop_assert!(decode_with(&entry, Some(&vault)).is_err());
    }

    #[test]
    fn a_part_of_an_entry_is_no_record(record in record(), part in 0.0..1.0) {
        let entry = encode(&record).unwrap();
        let len = (entry.len() as f64 * part) as usize;
        prop_assert!(decode(&entry[..len]).is_err());
        let longer = [entry.as_slice(), &[0xC0]].concat();
        prop_assert!(decode(&longer).is_err());
    }

    #[test]
    fn changed_entries_do_no_harm(record in record(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut entry = encode(&record).unwrap();
        for (index, value) in changes {
            let index = index.index(entry.len());
            entry[index] ^= value;
        }
        if let Ok(record) = decode(&entry) {
            // What reads can be written.
            prop_assert!(encode(&record).is_ok());
        }
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes);
        let framed = [&[1, 0x9F], bytes.as_slice()].concat();
        let _ = decode(&framed);
    }
}

#[test]
fn entries_of_newer_versions_say_so() {
    assert!(matches!(decode(&[2, 0x9F]), Err(Error::UnknownFormat(2))));
    assert!(matches!(decode(&[]), Err(Error::Malformed(_))));
}
