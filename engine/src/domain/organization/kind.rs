//! The kinds of organization.

/// What an organization is to the service's owner. The numbers are stored (docs/format.md) and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OrganizationKind {
    /// Trying the product out.
    Test,
    /// Paying.
    Paid,
    /// Selling on to a portfolio of client organizations.
    Partner,
    /// Neither; may not create keys.
    Free,
}

impl OrganizationKind {
    const TABLE: [(Self, u8, &'static str); 4] = [
        (Self::Test, 0, "test"),
        (Self::Paid, 1, "paid"),
        (Self::Partner, 2, "partner"),
        (Self::Free, 3, "free"),
    ];

    /// Whether organizations of this kind may have new keys.
    #[must_use]
    pub const fn may_create_keys(self) -> bool {
        !matches!(self, Self::Free)
    }
}

crate::value::stored_enum::stored_enum!(OrganizationKind, "organization kind");
