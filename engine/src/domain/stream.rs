//! The stream: all events of one aggregate.

use std::fmt;

use crate::value::id::{
    ApiId, ApplicationId, ClientLinkId, ErasureId, KeyId, OrganizationId, PortalSessionId, RootKeyId,
    WebhookId,
};

/// The kind of aggregate. The numbers are stored (docs/format.md) and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamKind {
    /// A key.
    Key,
    /// An organization.
    Organization,
    /// An API.
    Api,
    /// A root key.
    RootKey,
    /// An application.
    Application,
    /// A partner and a client.
    ClientLink,
    /// A portal session.
    PortalSession,
    /// An erasure.
    Erasure,
    /// A webhook.
    Webhook,
}

impl StreamKind {
    const TABLE: [(Self, u8, &'static str); 9] = [
        (Self::Key, 1, "key"),
        (Self::Organization, 2, "organization"),
        (Self::Api, 3, "api"),
        (Self::RootKey, 4, "root_key"),
        (Self::ClientLink, 5, "client_link"),
        (Self::Application, 6, "application"),
        (Self::PortalSession, 7, "portal_session"),
        (Self::Webhook, 8, "webhook"),
        (Self::Erasure, 9, "erasure"),
    ];

    /// All kinds, in the order of their codes.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::TABLE.into_iter().map(|(kind, ..)| kind)
    }
}

crate::value::stored_enum::stored_enum!(StreamKind, "stream kind");

/// An aggregate's id with its kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamId {
    /// A key.
    Key(KeyId),
    /// An organization.
    Organization(OrganizationId),
    /// An API.
    Api(ApiId),
    /// A root key.
    RootKey(RootKeyId),
    /// An application.
    Application(ApplicationId),
    /// A partner and a client.
    ClientLink(ClientLinkId),
    /// A portal session.
    PortalSession(PortalSessionId),
    /// An erasure.
    Erasure(ErasureId),
    /// A webhook.
    Webhook(WebhookId),
}

impl StreamId {
    /// The kind of aggregate.
    #[must_use]
    pub const fn kind(&self) -> StreamKind {
        match self {
            Self::Key(_) => StreamKind::Key,
            Self::Organization(_) => StreamKind::Organization,
            Self::Api(_) => StreamKind::Api,
            Self::RootKey(_) => StreamKind::RootKey,
            Self::Application(_) => StreamKind::Application,
            Self::ClientLink(_) => StreamKind::ClientLink,
            Self::PortalSession(_) => StreamKind::PortalSession,
            Self::Erasure(_) => StreamKind::Erasure,
            Self::Webhook(_) => StreamKind::Webhook,
        }
    }

    /// The key that the stream is of, if it is a key's.
    #[must_use]
    pub const fn key_id(&self) -> Option<KeyId> {
        match self {
            Self::Key(id) => Some(*id),
            _ => None,
        }
    }

    /// The bytes by which indexes order streams: the kind's number, then the id. Ids that are ULIDs keep the order of
    /// time.
    #[must_use]
    pub fn to_index_key(&self) -> Vec<u8> {
        let mut key = vec![self.kind().code()];
        match self {
            Self::Key(id) => key.extend(id.to_u128().to_be_bytes()),
            Self::Organization(id) => key.extend(id.as_str().as_bytes()),
            Self::Api(id) => key.extend(id.to_u128().to_be_bytes()),
            Self::RootKey(id) => key.extend(id.to_u128().to_be_bytes()),
            Self::Application(id) => key.extend(id.to_u128().to_be_bytes()),
            Self::ClientLink(id) => key.extend(id.to_string().as_bytes()),
            Self::PortalSession(id) => key.extend(id.to_u128().to_be_bytes()),
            Self::Erasure(id) => key.extend(id.to_u128().to_be_bytes()),
            Self::Webhook(id) => key.extend(id.to_u128().to_be_bytes()),
        }
        key
    }
}

/// The aggregate's id.
impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(id) => id.fmt(f),
            Self::Organization(id) => id.fmt(f),
            Self::Api(id) => id.fmt(f),
            Self::RootKey(id) => id.fmt(f),
            Self::Application(id) => id.fmt(f),
            Self::ClientLink(id) => id.fmt(f),
            Self::PortalSession(id) => id.fmt(f),
            Self::Erasure(id) => id.fmt(f),
            Self::Webhook(id) => id.fmt(f),
        }
    }
}
