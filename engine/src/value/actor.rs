//! Who issued a command.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

/// What kind of caller issued a command. The numbers are stored (docs/format.md) and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ActorKind {
    /// Keyledger itself: expiry, and what follows from deleting an organization.
    System,
    /// A root key.
    RootKey,
    /// An OAuth 2.0 client.
    Application,
    /// A session of the self-service portal or the console.
    PortalSession,
    /// A person whom an OpenID Connect provider vouches for.
    User,
    /// Whoever has a key, about that key.
    Key,
}

impl ActorKind {
    /// All kinds with their stored number and their name.
    const TABLE: [(Self, u8, &'static str); 6] = [
        (Self::System, 0, "system"),
        (Self::RootKey, 1, "root_key"),
        (Self::Application, 2, "application"),
        (Self::PortalSession, 3, "portal_session"),
        (Self::User, 4, "user"),
        (Self::Key, 5, "key"),
    ];
}

crate::value::stored_enum::stored_enum!(ActorKind, "actor kind");

/// Who issued a command, and from where; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The kind of caller.
    pub kind: ActorKind,
    /// The caller's id; `system` for Keyledger itself.
    pub id: Arc<str>,
    /// The address the command came from. Personal.
    pub ip: Option<IpAddr>,
    /// The `User-Agent` the command came with, at most [`Actor::USER_AGENT_LEN_MAX`] bytes. Personal.
    pub user_agent: Option<Arc<str>>,
}

impl Actor {
    /// Longer user agents are cut to this many bytes.
    pub const USER_AGENT_LEN_MAX: usize = 256;

    /// Keyledger itself.
    #[must_use]
    pub fn system() -> Self {
        Self { kind: ActorKind::System, id: "system".into(), ip: None, user_agent: None }
    }

    /// Cuts a user agent to what the log keeps of it.
    #[must_use]
    pub fn clip_user_agent(text: &str) -> Arc<str> {
        let mut end = text.len().min(Self::USER_AGENT_LEN_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.get(..end).unwrap_or_default().into()
    }
}

/// The personal part of an actor, stored apart from the facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActorOrigin<'a> {
    /// See [`Actor::ip`].
    pub ip: Option<String>,
    /// See [`Actor::user_agent`].
    pub user_agent: Option<&'a str>,
}
