//! The table of all aggregates. From one row for each come its stream's kind and id, its commands, its state,
//! and the calls of its rules.

use std::fmt;

use serde::de::SeqAccess;
use serde::{Serialize, Serializer};

use crate::domain::application::{Application, ApplicationCommand};
use crate::domain::decision::{Context, Decide, Reads};
use crate::domain::erasure::{Erasure, ErasureCommand};
use crate::domain::event::Event;
use crate::domain::key::{Key, KeyCommand};
use crate::domain::organization::{Organization, OrganizationCommand};
use crate::domain::portal_session::{PortalSession, PortalSessionCommand};
use crate::domain::portfolio::{ClientLink, ClientLinkCommand};
use crate::domain::record::Record;
use crate::domain::rejection::Rejection;
use crate::domain::resource_api::{Api, ApiCommand};
use crate::domain::root_key::{RootKey, RootKeyCommand};
use crate::domain::webhook::{Webhook, WebhookCommand};
use crate::value::id::{
    ApiId, ApplicationId, ClientLinkId, ErasureId, IndexKey, KeyId, OrganizationId, PortalSessionId,
    RootKeyId, WebhookId,
};
use crate::value::position::Position;
use crate::value::subject::Subject;
use crate::value::time::Timestamp;

/// One kind of aggregate: the types in its row of the table.
pub(crate) trait Kind: Sized {
    type Id;
    type Command;

    /// The state in `aggregate`; none if it is another kind's.
    fn of(aggregate: &Aggregate) -> Option<&Self>;
}

/// Declares the aggregates: name, stored number and name of the stream's kind, type of the id, type of the
/// state (with its `apply` and its `Decide`), type of the commands.
macro_rules! aggregates {
    ($(
        $(#[$doc:meta])*
        $name:ident, stored $code:literal $text:literal, id $id:ty, state $state:ty, command $command:ty;
    )*) => {
        /// The kind of aggregate. The numbers are stored (docs/format.md) and never change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum StreamKind {
            $($(#[$doc])* $name,)*
        }

        impl StreamKind {
            const TABLE: &'static [(Self, u8, &'static str)] = &[$((Self::$name, $code, $text)),*];
        }

        /// The id of an aggregate with its kind.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum StreamId {
            $($(#[$doc])* $name($id),)*
        }

        impl StreamId {
            /// The kind of aggregate.
            #[must_use]
            pub const fn kind(&self) -> StreamKind {
                match self { $(Self::$name(_) => StreamKind::$name,)* }
            }

            /// The bytes that order streams in an index: the kind's number, then the id. ULIDs keep their
            /// order of time.
            #[must_use]
            pub fn to_index_key(&self) -> Vec<u8> {
                let mut key = vec![self.kind().code()];
                match self { $(Self::$name(id) => id.write_index_key(&mut key),)* }
                key
            }

            /// Reads the id of an aggregate of a kind from a sequence.
            pub(crate) fn read_id<'de, A: SeqAccess<'de>>(
                kind: StreamKind,
                seq: &mut A,
            ) -> Result<Option<Self>, A::Error> {
                Ok(match kind { $(StreamKind::$name => seq.next_element()?.map(Self::$name),)* })
            }
        }

        /// Shows the aggregate's id, without its kind.
        impl fmt::Display for StreamId {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Self::$name(id) => id.fmt(f),)* }
            }
        }

        /// Serializes the id of a stream without its kind, as [`StreamId::read_id`] reads it.
        pub(crate) struct BareId<'a>(pub(crate) &'a StreamId);

        impl Serialize for BareId<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self.0 { $(StreamId::$name(id) => id.serialize(serializer),)* }
            }
        }

        /// A command and the id of the aggregate that it is issued to.
        #[derive(Debug, Clone)]
        pub enum Command {
            $($(#[$doc])* $name($id, $command),)*
        }

        impl Command {
            /// The stream of the events that the command leads to.
            #[must_use]
            pub fn stream(&self) -> StreamId {
                match self { $(Self::$name(id, _) => StreamId::$name(id.clone()),)* }
            }

            /// Calls [`Decide::organization_id`].
            pub(crate) fn organization_id<'a>(
                &'a self,
                aggregate: Option<&'a Aggregate>,
            ) -> Option<&'a OrganizationId> {
                match self { $(
                    Self::$name(id, command) => {
                        <$state>::organization_id(id, aggregate.and_then(<$state>::of), command)
                    }
                )* }
            }

            /// Calls [`Decide::subject`].
            pub(crate) fn subject(&self, aggregate: Option<&Aggregate>) -> Subject {
                match self { $(
                    Self::$name(id, command) => {
                        <$state>::subject(id, aggregate.and_then(<$state>::of), command)
                    }
                )* }
            }

            /// Calls [`Decide::reads`].
            pub(crate) fn reads<'a>(&'a self, aggregate: Option<&'a Aggregate>) -> Reads<'a> {
                match self { $(
                    Self::$name(id, command) => {
                        <$state>::reads(id, aggregate.and_then(<$state>::of), command)
                    }
                )* }
            }

            /// Calls [`Decide::decide`].
            pub(crate) fn decide(
                &self,
                aggregate: Option<&Aggregate>,
                context: &Context<'_>,
                now: Timestamp,
            ) -> Result<Vec<Event>, Rejection> {
                match self { $(
                    Self::$name(id, command) => {
                        let state = aggregate.and_then(<$state>::of);
                        <$state as Decide>::decide(id, state, command, context, now)
                    }
                )* }
            }
        }

        /// The state of an aggregate.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Aggregate {
            $($(#[$doc])* $name($state),)*
        }

        impl Aggregate {
            /// The aggregate after `record`; `None` when the record does not fit.
            #[must_use]
            pub fn apply(aggregate: Option<Self>, record: &Record) -> Option<Self> {
                match (&record.stream, aggregate) {
                    $(
                        (StreamId::$name(_), None) => <$state>::apply(None, record).map(Self::$name),
                        (StreamId::$name(_), Some(Self::$name(state))) => {
                            <$state>::apply(Some(state), record).map(Self::$name)
                        }
                    )*
                    _ => None,
                }
            }
        }

        $(
            impl Kind for $state {
                type Id = $id;
                type Command = $command;

                fn of(aggregate: &Aggregate) -> Option<&Self> {
                    match aggregate {
                        Aggregate::$name(state) => Some(state),
                        _ => None,
                    }
                }
            }

            impl From<$id> for StreamId {
                fn from(id: $id) -> Self {
                    Self::$name(id)
                }
            }
        )*
    };
}

aggregates! {
    /// A key.
    Key, stored 1 "key", id KeyId, state Key, command KeyCommand;
    /// An organization.
    Organization, stored 2 "organization", id OrganizationId, state Organization, command OrganizationCommand;
    /// An API.
    Api, stored 3 "api", id ApiId, state Api, command ApiCommand;
    /// A root key.
    RootKey, stored 4 "root_key", id RootKeyId, state RootKey, command RootKeyCommand;
    /// The link between a partner and a client.
    ClientLink, stored 5 "client_link", id ClientLinkId, state ClientLink, command ClientLinkCommand;
    /// An application.
    Application, stored 6 "application", id ApplicationId, state Application, command ApplicationCommand;
    /// A portal session.
    PortalSession, stored 7 "portal_session", id PortalSessionId, state PortalSession,
        command PortalSessionCommand;
    /// A webhook.
    Webhook, stored 8 "webhook", id WebhookId, state Webhook, command WebhookCommand;
    /// An erasure.
    Erasure, stored 9 "erasure", id ErasureId, state Erasure, command ErasureCommand;
}

crate::value::stored_enum::stored_enum!(StreamKind, "stream kind");

impl StreamKind {
    /// All kinds, in the order of their codes.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::TABLE.iter().map(|(kind, ..)| *kind)
    }
}

impl StreamId {
    /// The id of the key; none for another kind of aggregate.
    #[must_use]
    pub const fn key_id(&self) -> Option<KeyId> {
        match self {
            Self::Key(id) => Some(*id),
            _ => None,
        }
    }
}

impl Aggregate {
    /// Applies `records`, a stream from its first event. `None` for no records.
    ///
    /// # Errors
    /// The position of the first record that does not fit.
    pub fn fold(records: &[Record]) -> Result<Option<Self>, Position> {
        records.iter().try_fold(None, |aggregate, record| {
            Self::apply(aggregate, record).map(Some).ok_or(record.position)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_kinds_share_a_number_or_a_name() {
        for (index, (kind, code, name)) in StreamKind::TABLE.iter().enumerate() {
            assert_eq!(StreamKind::from_code(*code), Some(*kind));
            assert_eq!(name.parse(), Ok(*kind));
            assert_eq!(usize::from(*code), index + 1, "numbers are given in the order of the rows");
        }
    }
}
