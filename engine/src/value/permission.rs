//! Permissions of root keys, applications and roles.

/// Something a credential may do. The numbers are stored (docs/format.md) and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Permission {
    /// Grants every other permission.
    Admin,
    /// Issue keys.
    KeysCreate,
    /// List and read keys.
    KeysRead,
    /// Rename and edit keys.
    KeysUpdate,
    /// Revoke, reactivate and rotate keys.
    KeysRevoke,
    /// Delete keys.
    KeysDelete,
    /// Verify tokens.
    KeysVerify,
    /// Read organizations.
    OrganizationsRead,
    /// Create, change and delete organizations.
    OrganizationsWrite,
    /// Read APIs.
    ApisRead,
    /// Register, change and delete APIs.
    ApisWrite,
    /// Read the audit trail.
    EventsRead,
    /// Create and delete OAuth 2.0 clients.
    ApplicationsWrite,
    /// Mint portal sessions.
    PortalWrite,
    /// Register, change and delete webhooks.
    WebhooksWrite,
}

impl Permission {
    const TABLE: [(Self, u8, &'static str); 15] = [
        (Self::Admin, 0, "admin"),
        (Self::KeysCreate, 1, "keys:create"),
        (Self::KeysRead, 2, "keys:read"),
        (Self::KeysUpdate, 3, "keys:update"),
        (Self::KeysRevoke, 4, "keys:revoke"),
        (Self::KeysDelete, 5, "keys:delete"),
        (Self::KeysVerify, 6, "keys:verify"),
        (Self::OrganizationsRead, 7, "organizations:read"),
        (Self::OrganizationsWrite, 8, "organizations:write"),
        (Self::ApisRead, 9, "apis:read"),
        (Self::ApisWrite, 10, "apis:write"),
        (Self::EventsRead, 11, "events:read"),
        (Self::ApplicationsWrite, 12, "applications:write"),
        (Self::PortalWrite, 13, "portal:write"),
        (Self::WebhooksWrite, 14, "webhooks:write"),
    ];

    /// Whether `held` grants this permission, either directly or through `admin`.
    #[must_use]
    pub fn is_granted_by(self, held: &[Self]) -> bool {
        held.iter().any(|permission| *permission == self || *permission == Self::Admin)
    }

    /// Returns the permissions that both lists grant, sorted and without duplicates. `admin` in one list
    /// grants every permission in the other.
    #[must_use]
    pub fn in_both(one: &[Self], other: &[Self]) -> Vec<Self> {
        let in_one = other.iter().filter(|permission| permission.is_granted_by(one));
        let in_other = one.iter().filter(|permission| permission.is_granted_by(other));
        let mut both: Vec<Self> = in_one.chain(in_other).copied().collect();
        both.sort_unstable();
        both.dedup();
        both
    }

    /// Formats permissions as an OAuth 2.0 scope (RFC 6749 §3.3): names separated by single spaces.
    #[must_use]
    pub fn to_scope(permissions: &[Self]) -> String {
        permissions.iter().map(|permission| permission.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// Parses an OAuth 2.0 scope.
    ///
    /// # Errors
    /// When a name is not a permission; the text lists the valid ones.
    pub fn of_scope(scope: &str) -> Result<Vec<Self>, String> {
        scope.split(' ').filter(|name| !name.is_empty()).map(str::parse).collect()
    }
}

super::stored_enum::stored_enum!(Permission, "permission");

#[cfg(test)]
mod tests {
    use super::Permission::{self, Admin, KeysRead, KeysVerify};

    #[test]
    fn what_both_allow() {
        assert_eq!(Permission::in_both(&[Admin], &[KeysRead, KeysVerify]), [KeysRead, KeysVerify]);
        assert_eq!(Permission::in_both(&[KeysRead], &[Admin]), [KeysRead]);
        assert_eq!(Permission::in_both(&[KeysRead, KeysVerify], &[KeysVerify]), [KeysVerify]);
        assert_eq!(Permission::in_both(&[KeysRead], &[KeysVerify]), []);
        assert_eq!(Permission::in_both(&[Admin], &[Admin]), [Admin]);
    }

    #[test]
    fn a_scope_is_read_as_it_was_written() {
        let all: Vec<Permission> = Permission::names().map(|name| name.parse().unwrap()).collect();
        assert_eq!(Permission::of_scope(&Permission::to_scope(&all)).unwrap(), all);
        assert!(Permission::of_scope("keys:read keys:everything").is_err());
    }
}
