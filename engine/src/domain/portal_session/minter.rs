//! The minter: the credential that created a portal session's link. A session ends with it.

use crate::value::actor::ActorKind;
use crate::value::id::{ApplicationId, PortalSessionId, RootKeyId};

/// A credential whose end is in the log, and with which the sessions end that it minted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Minter {
    /// A root key, until it is revoked.
    RootKey(RootKeyId),
    /// An application, until it is deleted.
    Application(ApplicationId),
    /// Another portal session, until it ends, whatever ends it.
    PortalSession(PortalSessionId),
}

impl Minter {
    /// The minter that an actor is; none for an actor whose end the log does not record, such as a user of an
    /// OpenID provider.
    #[must_use]
    pub fn of(kind: ActorKind, id: &str) -> Option<Self> {
        match kind {
            ActorKind::RootKey => id.parse().ok().map(Self::RootKey),
            ActorKind::Application => id.parse().ok().map(Self::Application),
            ActorKind::PortalSession => id.parse().ok().map(Self::PortalSession),
            ActorKind::System | ActorKind::User | ActorKind::Key => None,
        }
    }
}
