//! The caller that issued a command.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

/// Kind of caller that issued a command. The numbers are stored (docs/format.md) and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ActorKind {
    /// Keyledger itself: expiry, and deletions that follow from deleting an organization.
    System,
    /// A root key.
    RootKey,
    /// An OAuth 2.0 client.
    Application,
    /// A session of the self-service portal or of the console.
    PortalSession,
    /// A person authenticated by an OpenID Connect provider.
    User,
    /// The holder of a key, acting on that key.
    Key,
}

impl ActorKind {
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

/// Caller that issued a command, and its origin. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Kind of caller.
    pub kind: ActorKind,
    /// Id of the caller; `system` for Keyledger itself.
    pub id: Arc<str>,
    /// IP address the command came from. Personal data.
    pub ip: Option<IpAddr>,
    /// `User-Agent` of the request, at most [`Actor::USER_AGENT_LEN_MAX`] bytes. Personal data.
    pub user_agent: Option<Arc<str>>,
}

impl Actor {
    /// Maximum length of a stored user agent, in bytes. Longer ones are truncated.
    pub const USER_AGENT_LEN_MAX: usize = 256;

    /// The actor for commands that Keyledger issues itself: no address, no user agent.
    #[must_use]
    pub fn system() -> Self {
        Self { kind: ActorKind::System, id: "system".into(), ip: None, user_agent: None }
    }

    /// Truncates a user agent to [`Actor::USER_AGENT_LEN_MAX`] bytes, at a character boundary.
    #[must_use]
    pub fn clip_user_agent(text: &str) -> Arc<str> {
        let mut end = text.len().min(Self::USER_AGENT_LEN_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.get(..end).unwrap_or_default().into()
    }
}

/// Personal part of an actor. It is stored apart from the facts, so that it can be sealed and erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActorOrigin<'a> {
    /// [`Actor::ip`] as text.
    pub ip: Option<String>,
    /// See [`Actor::user_agent`].
    pub user_agent: Option<&'a str>,
}
