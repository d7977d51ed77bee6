//! Roles of people in an organization, and the permissions of each.

use crate::value::permission::Permission;

/// Role of a person in an organization. The numbers are stored (docs/format.md) and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Does everything in the organization, including webhooks and portal sessions for other people.
    Owner,
    /// Manages every key of the organization.
    Admin,
    /// Manages their own keys.
    Member,
    /// Reads keys and events; changes nothing.
    Auditor,
}

impl Role {
    const TABLE: [(Self, u8, &'static str); 4] = [
        (Self::Owner, 0, "owner"),
        (Self::Admin, 1, "admin"),
        (Self::Member, 2, "member"),
        (Self::Auditor, 3, "auditor"),
    ];

    /// All roles, most powerful first.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Member, Self::Auditor];

    /// Permissions of the role in its organization. The only table of roles and permissions.
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

    /// Whether the role sees only the person's own keys, not the organization's others.
    #[must_use]
    pub const fn sees_own_keys_only(self) -> bool {
        matches!(self, Self::Member)
    }
}

crate::value::stored_enum::stored_enum!(Role, "role");
