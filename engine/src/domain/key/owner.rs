//! The owner of a key.

use serde::{Deserialize, Serialize};

use crate::value::environment::Environment;
use crate::value::id::OrganizationId;
use crate::value::text::UserId;

/// The kind of owner. The numbers are stored (docs/format.md) and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OwnerKind {
    /// The organization as a whole.
    Organization,
    /// One user inside the organization.
    User,
    /// A partner, for every client organization in its portfolio.
    Partner,
    /// One client organization in a partner's portfolio.
    Client,
}

impl OwnerKind {
    const TABLE: [(Self, u8, &'static str); 4] = [
        (Self::Organization, 0, "organization"),
        (Self::User, 1, "user"),
        (Self::Partner, 2, "partner"),
        (Self::Client, 3, "client"),
    ];
}

crate::value::stored_enum::stored_enum!(OwnerKind, "owner kind");

/// The owner as the facts name it. The user's id is in the personal part, apart from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The kind of owner.
    pub kind: OwnerKind,
    /// The client organization, for [`OwnerKind::Client`] only.
    pub client_id: Option<OrganizationId>,
}

impl Owner {
    /// The organization itself, or one of its users.
    #[must_use]
    pub const fn in_organization(is_user: bool) -> Self {
        Self { kind: if is_user { OwnerKind::User } else { OwnerKind::Organization }, client_id: None }
    }

    /// A partner, for every client in its portfolio.
    #[must_use]
    pub const fn partner() -> Self {
        Self { kind: OwnerKind::Partner, client_id: None }
    }

    /// One client in a partner's portfolio.
    #[must_use]
    pub const fn client(client_id: OrganizationId) -> Self {
        Self { kind: OwnerKind::Client, client_id: Some(client_id) }
    }
}

/// A user of an organization, in one environment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserOf {
    /// The organization.
    pub organization_id: OrganizationId,
    /// The environment.
    pub environment: Environment,
    /// The user.
    pub user_id: UserId,
}
