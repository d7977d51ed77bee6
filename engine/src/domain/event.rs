//! All events there are. Each has a name and a schema number that are stored, facts, and a personal part that can be
//! erased without them (docs/format.md).

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, SeqAccess};

use crate::domain::application::{
    ApplicationCreated, ApplicationPermissionsChanged, ApplicationPersonal, ApplicationSecretRotated,
};
use crate::domain::erasure::PersonalDataErased;
use crate::domain::key::{
    KeyCreated, KeyCreatedPersonal, KeyDescriptionChangedPersonal, KeyExpired, KeyExpiryChanged,
    KeyMetadataChangedPersonal, KeyRenamedPersonal, KeyRevoked, KeyRevokedPersonal, KeyRotated,
    KeyScopesChanged,
};
use crate::domain::organization::{OrganizationCreated, OrganizationKindChanged, OrganizationPersonal};
use crate::domain::policy::{PolicyRemoved, PolicySet};
use crate::domain::portal_session::{
    PortalSessionCreated, PortalSessionCreatedPersonal, PortalSessionEnded, PortalSessionStarted,
};
use crate::domain::portfolio::{ClientLinked, ClientUnlinked};
use crate::domain::resource_api::{ApiRegistered, ApiRenamed, ApiScopesChanged};
use crate::domain::root_key::{RootKeyCreated, RootKeyCreatedPersonal};
use crate::domain::webhook::{
    WebhookDisabled, WebhookEventTypesChanged, WebhookRegistered, WebhookSecretRotated, WebhookUrlChanged,
};

/// Declares the events: name, present schema number, type of the facts, type of the personal part.
macro_rules! events {
    ($($(#[$doc:meta])* $name:ident, schema $schema:literal, facts $facts:ty, personal $personal:ty;)*) => {
        /// Something that happened: its facts, and what of it is personal.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Event {
            $($(#[$doc])* $name($facts, $personal),)*
        }

        /// The kind of an event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum EventType {
            $($(#[$doc])* $name,)*
        }

        impl EventType {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name that is stored and shown.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The schema number that new events of this kind are written with.
            #[must_use]
            pub const fn schema(self) -> u16 {
                match self { $(Self::$name => $schema,)* }
            }
        }

        impl Event {
            /// Its kind.
            #[must_use]
            pub const fn event_type(&self) -> EventType {
                match self { $(Self::$name(..) => EventType::$name,)* }
            }

            /// Encodes facts and personal part with the two functions given.
            pub(crate) fn encode_parts<E>(
                &self,
                parts: &mut impl EventParts<Error = E>,
            ) -> Result<(), E> {
                match self {
                    $(Self::$name(facts, personal) => {
                        parts.facts(facts)?;
                        parts.personal(personal)
                    })*
                }
            }
        }

        impl EventDraft {
            /// Reads the facts of an event of the present schema from a sequence.
            pub(crate) fn read_facts<'de, A: SeqAccess<'de>>(
                event_type: EventType,
                seq: &mut A,
            ) -> Result<Option<Self>, A::Error> {
                Ok(match event_type {
                    $(EventType::$name => seq.next_element::<$facts>()?.map(Self::$name),)*
                })
            }

            /// Reads the facts from the bytes of a value that upcasters have brought to the present schema.
            pub(crate) fn from_upcast(
                event_type: EventType,
                facts: &[u8],
            ) -> Result<Self, rmp_serde::decode::Error> {
                Ok(match event_type {
                    $(EventType::$name => Self::$name(rmp_serde::from_slice(facts)?),)*
                })
            }

            /// Adds the personal part, which `read` yields.
            pub(crate) fn complete<E>(self, read: impl PersonalPart<Error = E>) -> Result<Event, E> {
                Ok(match self {
                    $(Self::$name(facts) => Event::$name(facts, read.read::<$personal>()?),)*
                })
            }
        }

        /// An event whose personal part is still to be read.
        pub(crate) enum EventDraft {
            $($name($facts),)*
        }
    };
}

events! {
    /// A key was issued.
    KeyCreated, schema 1, facts KeyCreated, personal KeyCreatedPersonal;
    /// A key got another name.
    KeyRenamed, schema 1, facts (), personal KeyRenamedPersonal;
    /// A key got another description.
    KeyDescriptionChanged, schema 1, facts (), personal KeyDescriptionChangedPersonal;
    /// A key got other metadata.
    KeyMetadataChanged, schema 1, facts (), personal KeyMetadataChangedPersonal;
    /// A key may do other things than before.
    KeyScopesChanged, schema 1, facts KeyScopesChanged, personal ();
    /// A key ends at another time than before.
    KeyExpiryChanged, schema 1, facts KeyExpiryChanged, personal ();
    /// A key was stopped; it can be reactivated.
    KeyRevoked, schema 1, facts KeyRevoked, personal KeyRevokedPersonal;
    /// A revoked key works again.
    KeyReactivated, schema 1, facts (), personal ();
    /// A key got a new token.
    KeyRotated, schema 1, facts KeyRotated, personal ();
    /// A key's time came.
    KeyExpired, schema 1, facts KeyExpired, personal ();
    /// A key was deleted, for good.
    KeyDeleted, schema 1, facts (), personal ();
    /// An organization was created.
    OrganizationCreated, schema 1, facts OrganizationCreated, personal OrganizationPersonal;
    /// An organization got another name.
    OrganizationRenamed, schema 1, facts (), personal OrganizationPersonal;
    /// An organization is of another kind than before.
    OrganizationKindChanged, schema 1, facts OrganizationKindChanged, personal ();
    /// An organization was deleted, and every key of it stopped.
    OrganizationDeleted, schema 1, facts (), personal ();
    /// An organization demands something else of its keys in an environment than before.
    PolicySet, schema 1, facts PolicySet, personal ();
    /// An organization demands nothing of its keys in an environment any more.
    PolicyRemoved, schema 1, facts PolicyRemoved, personal ();
    /// A client came into a partner's portfolio.
    ClientLinked, schema 1, facts ClientLinked, personal ();
    /// A client left a partner's portfolio, and every key that the partner made for it stopped.
    ClientUnlinked, schema 1, facts ClientUnlinked, personal ();
    /// An API was registered.
    ApiRegistered, schema 1, facts ApiRegistered, personal ();
    /// An API got another name.
    ApiRenamed, schema 1, facts ApiRenamed, personal ();
    /// An API has other scopes than before.
    ApiScopesChanged, schema 1, facts ApiScopesChanged, personal ();
    /// An API was deleted, and every key of it is refused.
    ApiDeleted, schema 1, facts (), personal ();
    /// A root key was created.
    RootKeyCreated, schema 1, facts RootKeyCreated, personal RootKeyCreatedPersonal;
    /// A root key was revoked, for good.
    RootKeyRevoked, schema 1, facts (), personal ();
    /// An application was created.
    ApplicationCreated, schema 1, facts ApplicationCreated, personal ApplicationPersonal;
    /// An application got another name.
    ApplicationRenamed, schema 1, facts (), personal ApplicationPersonal;
    /// An application may do other things than before.
    ApplicationPermissionsChanged, schema 1, facts ApplicationPermissionsChanged, personal ();
    /// An application got a new secret.
    ApplicationSecretRotated, schema 1, facts ApplicationSecretRotated, personal ();
    /// An application was deleted, for good.
    ApplicationDeleted, schema 1, facts (), personal ();
    /// A link to a portal session was minted.
    PortalSessionCreated, schema 1, facts PortalSessionCreated, personal PortalSessionCreatedPersonal;
    /// The link was followed.
    PortalSessionStarted, schema 1, facts PortalSessionStarted, personal ();
    /// A portal session was ended before its time.
    PortalSessionEnded, schema 1, facts PortalSessionEnded, personal ();
    /// The keys that personal text is sealed with were destroyed, and the text with them.
    PersonalDataErased, schema 1, facts PersonalDataErased, personal ();
    /// A webhook was registered.
    WebhookRegistered, schema 1, facts WebhookRegistered, personal ();
    /// A webhook's messages go elsewhere.
    WebhookUrlChanged, schema 1, facts WebhookUrlChanged, personal ();
    /// A webhook is told of other things than before.
    WebhookEventTypesChanged, schema 1, facts WebhookEventTypesChanged, personal ();
    /// A webhook got a new secret.
    WebhookSecretRotated, schema 1, facts WebhookSecretRotated, personal ();
    /// Nothing is delivered to a webhook any more.
    WebhookDisabled, schema 1, facts WebhookDisabled, personal ();
    /// Messages are delivered to a webhook again.
    WebhookEnabled, schema 1, facts (), personal ();
    /// A webhook was deleted, for good.
    WebhookDeleted, schema 1, facts (), personal ();
}

/// Takes the two parts of an event, one after the other.
pub(crate) trait EventParts {
    type Error;
    fn facts<T: serde::Serialize>(&mut self, facts: &T) -> Result<(), Self::Error>;
    fn personal<T: serde::Serialize>(&mut self, personal: &T) -> Result<(), Self::Error>;
}

/// Yields the personal part of an event; one that was erased is empty.
pub(crate) trait PersonalPart {
    type Error;
    fn read<T: DeserializeOwned + Default>(self) -> Result<T, Self::Error>;
}

impl EventType {
    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|event_type| event_type.as_str() == name)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for EventType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::from_name(name).ok_or_else(|| format!("unknown event type {name}"))
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::value::fixed_bytes::parse_text(deserializer)
    }
}
