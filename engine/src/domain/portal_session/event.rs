//! The events of a portal session: facts, and the personal part apart from them. The order of fields is the
//! order of bytes (docs/format.md). To add, remove or move a field, introduce a new schema number.

use serde::{Deserialize, Serialize};

use crate::value::role::Role;
use crate::value::text::UserId;
use crate::value::time::Timestamp;
use crate::value::token::Digest;

/// The reason for which a session ended before it expired. The numbers are stored (docs/format.md) and never
/// change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndReason {
    /// The person signed out.
    SignedOut,
    /// Another caller ended it.
    Revoked,
    /// It was not used for too long.
    Idle,
}

impl EndReason {
    const TABLE: [(Self, u8, &'static str); 3] =
        [(Self::SignedOut, 0, "signed_out"), (Self::Revoked, 1, "revoked"), (Self::Idle, 2, "idle")];
}

crate::value::stored_enum::stored_enum!(EndReason, "reason for a portal session's end");

/// A portal session's link was created. The record names the organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalSessionCreated {
    /// The digest of the link's secret.
    pub digest: Digest,
    /// The person's role.
    pub role: Role,
    /// The time at which the link expires.
    pub link_expires_at: Timestamp,
    /// The lifetime of the session from its start, in seconds.
    pub lifetime_seconds: u32,
    /// The time at which the link and the session end at the latest, because the credential that minted them
    /// expires; none for a credential that does not expire.
    pub ends_by: Option<Timestamp>,
}

/// The personal part of [`PortalSessionCreated`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalSessionCreatedPersonal {
    /// The user, as the organization names them.
    pub user_id: Option<UserId>,
}

/// The link was followed, and the session started. The link does not work again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalSessionStarted {
    /// The digest of the session's secret.
    pub digest: Digest,
    /// The time at which the session expires.
    pub expires_at: Timestamp,
}

/// The session, or a link that was not followed, was ended before it expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalSessionEnded {
    /// The reason.
    pub reason: EndReason,
}
