//! The events of a portal session: facts, and apart from them the personal part. The order of fields is the order of bytes
//! (docs/format.md): a field is never added, removed or moved without a new schema number.

use serde::{Deserialize, Serialize};

use crate::value::role::Role;
use crate::value::text::UserId;
use crate::value::time::Timestamp;
use crate::value::token::Digest;

/// Why a session ended before its time. The numbers are stored (docs/format.md) and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndReason {
    /// The person signed out.
    SignedOut,
    /// Somebody else ended it.
    Revoked,
}

impl EndReason {
    const TABLE: [(Self, u8, &'static str); 2] =
        [(Self::SignedOut, 0, "signed_out"), (Self::Revoked, 1, "revoked")];
}

crate::value::stored_enum::stored_enum!(EndReason, "reason for a portal session's end");

/// A link to a portal session was minted. The organization is the record's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalSessionCreated {
    /// Digest of the link's secret.
    pub digest: Digest,
    /// What the person may do.
    pub role: Role,
    /// Until when the link can be followed.
    pub link_expires_at: Timestamp,
    /// How long the session lasts once it was started, in seconds.
    pub lifetime_seconds: u32,
}

/// The personal part of [`PortalSessionCreated`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalSessionCreatedPersonal {
    /// Who the person is, as the organization names them.
    pub user_id: Option<UserId>,
}

/// The link was followed; it is good for nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalSessionStarted {
    /// Digest of the session's secret.
    pub digest: Digest,
    /// When the session ends by itself.
    pub expires_at: Timestamp,
}

/// The session, or a link that nobody followed, was ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalSessionEnded {
    /// Why.
    pub reason: EndReason,
}
