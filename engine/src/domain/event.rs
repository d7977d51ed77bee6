//! The table of all events. Each has a name and a schema number, both stored, facts, and a personal part that
//! can be erased without the facts (docs/format.md).

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

/// Declares the events: name, current schema number, type of the facts, type of the personal part.
macro_rules! events {
    ($($(#[$doc:meta])* $name:ident, schema $schema:literal, facts $facts:ty, personal $personal:ty;)*) => {
        /// Something that happened to an aggregate: the facts, and the personal part.
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

            /// The name in the log, in the API and in exports.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The schema number of new events of this kind.
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

            /// Passes the facts and then the personal part to `parts`.
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
            /// Reads the facts of an event of the current schema from a sequence.
            pub(crate) fn read_facts<'de, A: SeqAccess<'de>>(
                event_type: EventType,
                seq: &mut A,
            ) -> Result<Option<Self>, A::Error> {
                Ok(match event_type {
                    $(EventType::$name => seq.next_element::<$facts>()?.map(Self::$name),)*
                })
            }

            /// Reads the facts from bytes that upcasters have converted to the current schema.
            pub(crate) fn from_upcast(
                event_type: EventType,
                facts: &[u8],
            ) -> Result<Self, rmp_serde::decode::Error> {
                Ok(match event_type {
                    $(EventType::$name => Self::$name(rmp_serde::from_slice(facts)?),)*
                })
            }

            /// Adds the personal part that `read` returns.
            pub(crate) fn complete<E>(self, read: impl PersonalPart<Error = E>) -> Result<Event, E> {
                Ok(match self {
                    $(Self::$name(facts) => Event::$name(facts, read.read::<$personal>()?),)*
                })
            }
        }

        /// An event whose personal part has not been read yet.
        pub(crate) enum EventDraft {
            $($name($facts),)*
        }
    };
}

events! {
    /// A key was issued.
    KeyCreated, schema 1, facts KeyCreated, personal KeyCreatedPersonal;
    /// A key was renamed, or its name was cleared.
    KeyRenamed, schema 1, facts (), personal KeyRenamedPersonal;
    /// A key's description was changed or cleared.
    KeyDescriptionChanged, schema 1, facts (), personal KeyDescriptionChangedPersonal;
    /// A key's metadata was changed or cleared.
    KeyMetadataChanged, schema 1, facts (), personal KeyMetadataChangedPersonal;
    /// A key's scopes were changed.
    KeyScopesChanged, schema 1, facts KeyScopesChanged, personal ();
    /// A key's expiry was changed or removed.
    KeyExpiryChanged, schema 1, facts KeyExpiryChanged, personal ();
    /// A key was revoked; it can be reactivated.
    KeyRevoked, schema 1, facts KeyRevoked, personal KeyRevokedPersonal;
    /// A revoked key was reactivated.
    KeyReactivated, schema 1, facts (), personal ();
    /// A key's token was replaced by a new one.
    KeyRotated, schema 1, facts KeyRotated, personal ();
    /// A key expired.
    KeyExpired, schema 1, facts KeyExpired, personal ();
    /// A key was deleted. This is final.
    KeyDeleted, schema 1, facts (), personal ();
    /// An organization was created.
    OrganizationCreated, schema 1, facts OrganizationCreated, personal OrganizationPersonal;
    /// An organization was renamed, or its name was cleared.
    OrganizationRenamed, schema 1, facts (), personal OrganizationPersonal;
    /// An organization's kind was changed.
    OrganizationKindChanged, schema 1, facts OrganizationKindChanged, personal ();
    /// An organization was deleted, and all its keys stopped working.
    OrganizationDeleted, schema 1, facts (), personal ();
    /// An organization's policy for one environment was set or replaced.
    PolicySet, schema 1, facts PolicySet, personal ();
    /// An organization's policy for one environment was removed.
    PolicyRemoved, schema 1, facts PolicyRemoved, personal ();
    /// A client was linked to a partner's portfolio.
    ClientLinked, schema 1, facts ClientLinked, personal ();
    /// A client was unlinked from a partner's portfolio, and all keys that the partner made for it stopped
    /// working.
    ClientUnlinked, schema 1, facts ClientUnlinked, personal ();
    /// An API was registered.
    ApiRegistered, schema 1, facts ApiRegistered, personal ();
    /// An API was renamed.
    ApiRenamed, schema 1, facts ApiRenamed, personal ();
    /// An API's scopes were changed.
    ApiScopesChanged, schema 1, facts ApiScopesChanged, personal ();
    /// An API was deleted, and all its keys stopped working.
    ApiDeleted, schema 1, facts (), personal ();
    /// A root key was created.
    RootKeyCreated, schema 1, facts RootKeyCreated, personal RootKeyCreatedPersonal;
    /// A root key was revoked. This is final.
    RootKeyRevoked, schema 1, facts (), personal ();
    /// An application was created.
    ApplicationCreated, schema 1, facts ApplicationCreated, personal ApplicationPersonal;
    /// An application was renamed, or its name was cleared.
    ApplicationRenamed, schema 1, facts (), personal ApplicationPersonal;
    /// An application's permissions were changed.
    ApplicationPermissionsChanged, schema 1, facts ApplicationPermissionsChanged, personal ();
    /// An application's secret was replaced by a new one.
    ApplicationSecretRotated, schema 1, facts ApplicationSecretRotated, personal ();
    /// An application was deleted. This is final.
    ApplicationDeleted, schema 1, facts (), personal ();
    /// A portal session's link was created.
    PortalSessionCreated, schema 2, facts PortalSessionCreated, personal PortalSessionCreatedPersonal;
    /// A portal session's link was followed, and the session started.
    PortalSessionStarted, schema 1, facts PortalSessionStarted, personal ();
    /// A portal session was ended before it expired.
    PortalSessionEnded, schema 1, facts PortalSessionEnded, personal ();
    /// The keys that seal a subject's personal text were destroyed, and the text with them.
    PersonalDataErased, schema 1, facts PersonalDataErased, personal ();
    /// A webhook was registered.
    WebhookRegistered, schema 1, facts WebhookRegistered, personal ();
    /// A webhook's URL was changed.
    WebhookUrlChanged, schema 1, facts WebhookUrlChanged, personal ();
    /// A webhook's subscribed event types were changed.
    WebhookEventTypesChanged, schema 1, facts WebhookEventTypesChanged, personal ();
    /// A webhook's secret was replaced by a new one.
    WebhookSecretRotated, schema 1, facts WebhookSecretRotated, personal ();
    /// A webhook was disabled: nothing is delivered to it.
    WebhookDisabled, schema 1, facts WebhookDisabled, personal ();
    /// A webhook was enabled again.
    WebhookEnabled, schema 1, facts (), personal ();
    /// A webhook was deleted. This is final.
    WebhookDeleted, schema 1, facts (), personal ();
}

/// Receives the two parts of an event, one after the other.
pub(crate) trait EventParts {
    type Error;
    fn facts<T: serde::Serialize>(&mut self, facts: &T) -> Result<(), Self::Error>;
    fn personal<T: serde::Serialize>(&mut self, personal: &T) -> Result<(), Self::Error>;
}

/// Returns the personal part of an event; empty if it was erased.
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
