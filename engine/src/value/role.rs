//! Roles: what people may do in an organization, in one word.

use crate::value::permission::Permission;

/// What a person is to an organization. The numbers are stored (docs/format.md) and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Does everything, and lets others in.
    Owner,
    /// Manages all keys.
    Admin,
    /// Manages their own keys.
    Member,
    /// Looks at keys and events, and changes nothing.
    Auditor,
}

impl Role {
    const TABLE: [(Self, u8, &'static str); 4] = [
        (Self::Owner, 0, "owner"),
        (Self::Admin, 1, "admin"),
        (Self::Member, 2, "member"),
        (Self::Auditor, 3, "auditor"),
    ];

    /// All roles.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Member, Self::Auditor];

    /// What the role may do in its organization: the one table of roles and permissions.
    #[must_use]
    pub const fn permissions(self) -> &'static [Permission] {
        use Permission::{
            ApisRead, EventsRead, KeysCreate, KeysDelete, KeysRead, KeysRevoke, KeysUpdate, KeysVerify,
            OrganizationsRead, PortalWrite, WebhooksWrite,
        };
        match self {
            Self::Owner => &[
                KeysCreate,
                KeysRead,
                KeysUpdate,
                KeysRevoke,
                KeysDelete,
                KeysVerify,
                OrganizationsRead,
                ApisRead,
                EventsRead,
                PortalWrite,
                WebhooksWrite,
            ],
            Self::Admin => &[
                KeysCreate,
                KeysRead,
                KeysUpdate,
                KeysRevoke,
                KeysDelete,
                KeysVerify,
                OrganizationsRead,
                ApisRead,
                EventsRead,
            ],
            Self::Member => &[KeysCreate, KeysRead, KeysUpdate, KeysRevoke, KeysDelete, KeysVerify, ApisRead],
            Self::Auditor => &[KeysRead, OrganizationsRead, ApisRead, EventsRead],
        }
    }

    /// Whether the role sees the keys of one user only, and of the organization no others.
    #[must_use]
    pub const fn sees_own_keys_only(self) -> bool {
        matches!(self, Self::Member)
    }
}

crate::value::stored_enum::stored_enum!(Role, "role");
