//! Sample records: for each event type one with all optional fields and one with none.

use std::sync::{Arc, OnceLock};

use keyledger_engine::domain::application::{
    ApplicationCreated, ApplicationPermissionsChanged, ApplicationPersonal, ApplicationSecretRotated,
};
use keyledger_engine::domain::erasure::{ErasedSubject, PersonalDataErased};
use keyledger_engine::domain::event::{Event, EventType};
use keyledger_engine::domain::key::{
    KeyCreated, KeyCreatedPersonal, KeyDescriptionChangedPersonal, KeyExpired, KeyExpiryChanged,
    KeyMetadataChangedPersonal, KeyRenamedPersonal, KeyRevoked, KeyRevokedPersonal, KeyRotated,
    KeyScopesChanged, Owner, OwnerKind, RevocationReason,
};
use keyledger_engine::domain::organization::{
    OrganizationCreated, OrganizationKind, OrganizationKindChanged, OrganizationPersonal,
};
use keyledger_engine::domain::policy::{Policy, PolicyRemoved, PolicySet};
use keyledger_engine::domain::portal_session::{
    EndReason, PortalSessionCreated, PortalSessionCreatedPersonal, PortalSessionEnded, PortalSessionStarted,
};
use keyledger_engine::domain::portfolio::{ClientLinked, ClientUnlinked};
use keyledger_engine::domain::record::{Personal, Record};
use keyledger_engine::domain::resource_api::{ApiRegistered, ApiRenamed, ApiScopesChanged};
use keyledger_engine::domain::root_key::{RootKeyCreated, RootKeyCreatedPersonal};
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::domain::webhook::{
    DisableReason, MessageType, WebhookDisabled, WebhookEventTypesChanged, WebhookRegistered,
    WebhookSecretRotated, WebhookUrlChanged,
};
use keyledger_engine::log::{Append, CommandId, CommandKey, StreamHead};
use keyledger_engine::value::actor::{Actor, ActorKind};
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{
    ApiId, ApplicationId, ClientLinkId, ErasureId, EventId, KeyId, OrganizationId, PortalSessionId,
    RootKeyId, WebhookId,
};
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::position::{Position, Version};
use keyledger_engine::value::role::Role;
use keyledger_engine::value::text::{Audience, Description, Metadata, Name, Note, Scope, UserId};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::{Digest, TokenHint, TokenPrefix};
use keyledger_engine::vault::{Subject, SubjectKeyId, Vault};

const ULID: u128 = 0x0199_0000_0000_0000_0000_0000_0000_0000;
pub(crate) const TIME: Timestamp = Timestamp::from_millis(1_790_000_000_123);

fn scopes(full: bool) -> Vec<Scope> {
    let words: &[&str] = if full { &["read:users", "write:users"] } else { &[] };
    words.iter().map(|word| Scope::new(word).unwrap()).collect()
}

fn hint(prefix: &str) -> TokenHint {
    TokenHint { start: format!("{prefix}_ab12").into(), last_four: "Zz09".into() }
}

fn message_types(full: bool) -> Vec<MessageType> {
    let names: &[&str] = if full { &["KeyRevoked", "KeyExpiringSoon"] } else { &[] };
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// The permissions that existed when the golden files were written.
fn all_permissions() -> Vec<Permission> {
    Permission::names().take(14).map(|name| name.parse().unwrap()).collect()
}

fn digest(first: u8) -> Digest {
    let mut bytes = [0; 32];
    for (byte, value) in bytes.iter_mut().zip(first..) {
        *byte = value;
    }
    Digest::from_bytes(bytes)
}

fn organization(id: &str) -> OrganizationId {
    id.parse().unwrap()
}

/// An event of this type; `full` sets every optional field.
pub(crate) fn event(event_type: EventType, full: bool) -> Event {
    let api_id = full.then(|| ApiId::from_u128(ULID + 3));
    let name = full.then(|| Name::new("Produktion – 🔑").unwrap());
    let expires_at = full.then(|| Timestamp::from_millis(1_800_000_000_000));
    let organization_personal = OrganizationPersonal { name: name.clone() };
    match event_type {
        EventType::KeyCreated => Event::KeyCreated(
            KeyCreated {
                digest: digest(0),
                hint: hint("kl_live"),
                environment: if full { Environment::Production } else { Environment::Preview },
                owner: if full {
                    Owner { kind: OwnerKind::Client, client_id: Some(organization("client-1")) }
                } else {
                    Owner::in_organization(false)
                },
                api_id,
                scopes: scopes(full),
                expires_at,
            },
            KeyCreatedPersonal {
                user_id: full.then(|| UserId::new("auth0|5f7c").unwrap()),
                name,
                description: full.then(|| Description::new("nightly\nexport").unwrap()),
                metadata: full.then(|| {
                    Metadata::new(&serde_json::json!({"team": "data", "n": [1, 2.5, null]})).unwrap()
                }),
            },
        ),
        EventType::KeyRenamed => Event::KeyRenamed((), KeyRenamedPersonal { name }),
        EventType::KeyDescriptionChanged => {
            let description = full.then(|| Description::new("what it is for").unwrap());
            Event::KeyDescriptionChanged((), KeyDescriptionChangedPersonal { description })
        }
        EventType::KeyMetadataChanged => {
            let metadata = full.then(|| Metadata::new(&serde_json::json!({"a": {"b": true}})).unwrap());
            Event::KeyMetadataChanged((), KeyMetadataChangedPersonal { metadata })
        }
        EventType::KeyScopesChanged => Event::KeyScopesChanged(KeyScopesChanged { scopes: scopes(full) }, ()),
        EventType::KeyExpiryChanged => Event::KeyExpiryChanged(KeyExpiryChanged { expires_at }, ()),
        EventType::KeyRevoked => Event::KeyRevoked(
            KeyRevoked {
                reason: if full { RevocationReason::KeyCompromise } else { RevocationReason::Unspecified },
            },
            KeyRevokedPersonal { note: full.then(|| Note::new("found in a public repository").unwrap()) },
        ),
        EventType::KeyReactivated => Event::KeyReactivated((), ()),
        EventType::KeyRotated => Event::KeyRotated(
            KeyRotated {
                digest: digest(100),
                hint: hint("kl_preview"),
                previous_valid_until: TIME.saturating_add_millis(if full { 60_000 } else { 0 }),
            },
            (),
        ),
        EventType::KeyExpired => Event::KeyExpired(
            KeyExpired { expires_at: Timestamp::from_millis(if full { 1_800_000_000_000 } else { 0 }) },
            (),
        ),
        EventType::KeyDeleted => Event::KeyDeleted((), ()),
        EventType::OrganizationCreated => {
            let kind = if full { OrganizationKind::Partner } else { OrganizationKind::Test };
            Event::OrganizationCreated(OrganizationCreated { kind }, organization_personal)
        }
        EventType::OrganizationRenamed => Event::OrganizationRenamed((), organization_personal),
        EventType::OrganizationKindChanged => {
            let kind = if full { OrganizationKind::Free } else { OrganizationKind::Paid };
            Event::OrganizationKindChanged(OrganizationKindChanged { kind }, ())
        }
        EventType::OrganizationDeleted => Event::OrganizationDeleted((), ()),
        EventType::PolicySet => {
            let policy = Policy {
                max_lifetime_seconds: full.then_some(7_776_000),
                expiry_required: full,
                max_keys_per_user: full.then_some(5),
                allowed_scopes: full.then(|| scopes(true)),
                name_required: full,
            };
            let environment = if full { Environment::Production } else { Environment::Preview };
            Event::PolicySet(PolicySet { environment, policy }, ())
        }
        EventType::PolicyRemoved => {
            let environment = if full { Environment::Production } else { Environment::Preview };
            Event::PolicyRemoved(PolicyRemoved { environment }, ())
        }
        EventType::ClientLinked => {
            Event::ClientLinked(ClientLinked { client_id: organization("client-1") }, ())
        }
        EventType::ClientUnlinked => {
            Event::ClientUnlinked(ClientUnlinked { client_id: organization("client-1") }, ())
        }
        EventType::ApiRegistered => Event::ApiRegistered(
            ApiRegistered {
                name: Name::new("Users").unwrap(),
                audience: Audience::new("https://api.example.com/").unwrap(),
                token_prefix: if full { TokenPrefix::new("acme").unwrap() } else { TokenPrefix::default() },
                scopes: scopes(full),
            },
            (),
        ),
        EventType::ApiRenamed => Event::ApiRenamed(ApiRenamed { name: Name::new("People").unwrap() }, ()),
        EventType::ApiScopesChanged => Event::ApiScopesChanged(ApiScopesChanged { scopes: scopes(full) }, ()),
        EventType::ApiDeleted => Event::ApiDeleted((), ()),
        EventType::RootKeyCreated => {
            let permissions = if full { all_permissions() } else { vec![Permission::Admin] };
            let facts = RootKeyCreated { digest: digest(200), hint: hint("klroot"), permissions };
            Event::RootKeyCreated(facts, RootKeyCreatedPersonal { name })
        }
        EventType::RootKeyRevoked => Event::RootKeyRevoked((), ()),
        EventType::ApplicationCreated => {
            let permissions = if full { all_permissions() } else { vec![Permission::KeysVerify] };
            let facts = ApplicationCreated { digest: digest(50), hint: hint("klsecret"), permissions };
            Event::ApplicationCreated(facts, ApplicationPersonal { name })
        }
        EventType::ApplicationRenamed => Event::ApplicationRenamed((), ApplicationPersonal { name }),
        EventType::ApplicationPermissionsChanged => {
            let permissions = if full { vec![Permission::KeysRead, Permission::EventsRead] } else { vec![] };
            Event::ApplicationPermissionsChanged(ApplicationPermissionsChanged { permissions }, ())
        }
        EventType::ApplicationSecretRotated => Event::ApplicationSecretRotated(
            ApplicationSecretRotated { digest: digest(60), hint: hint("klsecret") },
            (),
        ),
        EventType::ApplicationDeleted => Event::ApplicationDeleted((), ()),
        EventType::PortalSessionCreated => Event::PortalSessionCreated(
            PortalSessionCreated {
                digest: digest(70),
                role: if full { Role::Auditor } else { Role::Owner },
                link_expires_at: TIME.saturating_add_millis(600_000),
                lifetime_seconds: 28_800,
                ends_by: full.then(|| TIME.saturating_add_millis(7_200_000)),
            },
            PortalSessionCreatedPersonal { user_id: full.then(|| UserId::new("auth0|5f7c").unwrap()) },
        ),
        EventType::PortalSessionStarted => {
            let expires_at = TIME.saturating_add_millis(28_800_000);
            Event::PortalSessionStarted(PortalSessionStarted { digest: digest(80), expires_at }, ())
        }
        EventType::PortalSessionEnded => {
            let reason = if full { EndReason::Revoked } else { EndReason::SignedOut };
            Event::PortalSessionEnded(PortalSessionEnded { reason }, ())
        }
        EventType::PersonalDataErased => {
            let subject = if full { ErasedSubject::Organization } else { ErasedSubject::User };
            let keys = [1, 2].map(|byte| SubjectKeyId::from_bytes([byte; 16]));
            let subject_keys = keys.into_iter().filter(|_| full).collect();
            Event::PersonalDataErased(PersonalDataErased { subject, subject_keys }, ())
        }
        EventType::WebhookRegistered => {
            let url = "https://example.com/hook?tenant=1".parse().unwrap();
            Event::WebhookRegistered(WebhookRegistered { url, event_types: message_types(full) }, ())
        }
        EventType::WebhookUrlChanged => {
            let url = if full { "https://example.com:8443/other" } else { "http://a" };
            Event::WebhookUrlChanged(WebhookUrlChanged { url: url.parse().unwrap() }, ())
        }
        EventType::WebhookEventTypesChanged => {
            Event::WebhookEventTypesChanged(WebhookEventTypesChanged { event_types: message_types(full) }, ())
        }
        EventType::WebhookSecretRotated => {
            let previous_valid_until = TIME.saturating_add_millis(if full { 86_400_000 } else { 0 });
            let generation = if full { 300 } else { 2 };
            Event::WebhookSecretRotated(WebhookSecretRotated { generation, previous_valid_until }, ())
        }
        EventType::WebhookDisabled => {
            let reason = if full { DisableReason::Failing } else { DisableReason::Requested };
            Event::WebhookDisabled(WebhookDisabled { reason }, ())
        }
        EventType::WebhookEnabled => Event::WebhookEnabled((), ()),
        EventType::WebhookDeleted => Event::WebhookDeleted((), ()),
    }
}

fn stream(event_type: EventType) -> StreamId {
    let name = event_type.as_str();
    if name.starts_with("Key") {
        StreamId::Key(KeyId::from_u128(ULID + 1))
    } else if name.starts_with("Organization") || name.starts_with("Policy") {
        StreamId::Organization(organization("acme"))
    } else if name.starts_with("Client") {
        let (partner_id, client_id) = (organization("acme"), organization("client-1"));
        StreamId::ClientLink(ClientLinkId { partner_id, client_id })
    } else if name.starts_with("Api") {
        StreamId::Api(ApiId::from_u128(ULID + 3))
    } else if name.starts_with("Application") {
        StreamId::Application(ApplicationId::from_u128(ULID + 5))
    } else if name.starts_with("Personal") {
        StreamId::Erasure(ErasureId::from_u128(ULID + 7))
    } else if name.starts_with("Portal") {
        StreamId::PortalSession(PortalSessionId::from_u128(ULID + 6))
    } else if name.starts_with("Webhook") {
        StreamId::Webhook(WebhookId::from_u128(ULID + 7))
    } else {
        StreamId::RootKey(RootKeyId::from_u128(ULID + 4))
    }
}

/// A record of this type; `full` sets every optional field.
pub(crate) fn record(event_type: EventType, full: bool) -> Record {
    let actor = if full {
        Actor {
            kind: ActorKind::RootKey,
            id: RootKeyId::from_u128(ULID + 4).to_string().into(),
            ip: Some("2001:db8::7".parse().unwrap()),
            user_agent: Some("curl/8.5.0".into()),
        }
    } else {
        Actor::system()
    };
    Record {
        position: Position::new(if full { 70_000 } else { 1 }),
        id: EventId::from_u128(ULID + 9),
        time: TIME,
        stream: stream(event_type),
        version: Version::new(if full { 300 } else { 1 }),
        organization_id: full.then(|| organization("org_01J9ZZZZZZZZZZZZZZZZZZZZZZ")),
        actor,
        request_id: full.then(|| "req-7".into()),
        causation: full.then(|| EventId::from_u128(ULID + 8)),
        event: event(event_type, full),
        personal: Personal::Readable,
    }
}

/// The vault shared by all logs of a test, so that keys survive any log.
pub(crate) fn vault() -> Arc<Vault> {
    static VAULT: OnceLock<Arc<Vault>> = OnceLock::new();
    Arc::clone(VAULT.get_or_init(|| Arc::new(Vault::in_memory().unwrap())))
}

/// Creates key number `number`, with a command id of its own.
pub(crate) fn issue(number: u64, name: &str) -> Append {
    let Event::KeyCreated(mut facts, mut personal) = event(EventType::KeyCreated, true) else {
        unreachable!("a key's creation")
    };
    let mut bytes = [0xA5; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    facts.digest = Digest::from_bytes(bytes);
    facts.owner = Owner::in_organization(true);
    personal.name = Some(Name::new(name).unwrap());
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let subject = Subject::of(Some(&organization("acme")), personal.user_id.as_ref());
    Append {
        subject,
        stream: StreamId::Key(KeyId::from_u128(ULID | u128::from(number) << 16)),
        expected: StreamHead::ABSENT,
        time: TIME.saturating_add_millis(i64::try_from(number).unwrap()),
        organization_id: Some(organization("acme")),
        actor: record(EventType::KeyCreated, true).actor,
        request_id: Some(format!("request-{number}").into()),
        causation: None,
        events: vec![(
            EventId::from_u128(ULID | u128::from(number) << 16 | 1),
            Event::KeyCreated(facts, personal),
        )],
        command: Some(CommandKey { id: CommandId(id), fingerprint: [7; 16] }),
    }
}

/// Renames a key whose stream has this head.
pub(crate) fn rename(stream: StreamId, head: StreamHead, number: u64) -> Append {
    let name = Some(Name::new(&format!("renamed {number}")).unwrap());
    let id = EventId::from_u128(ULID | u128::from(number) << 16 | 2);
    Append {
        stream,
        expected: head,
        events: vec![(id, Event::KeyRenamed((), KeyRenamedPersonal { name }))],
        command: None,
        ..issue(number, "unused")
    }
}
