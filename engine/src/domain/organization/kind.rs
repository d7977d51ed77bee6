//! The kinds of organization.

/// The kind of customer that an organization is. The numbers are stored (docs/format.md) and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OrganizationKind {
    /// Evaluates the product.
    Test,
    /// Pays for the product.
    Paid,
    /// Resells to a portfolio of client organizations.
    Partner,
    /// Uses the product for free; may not create keys.
    Free,
}

impl OrganizationKind {
    const TABLE: [(Self, u8, &'static str); 4] = [
        (Self::Test, 0, "test"),
        (Self::Paid, 1, "paid"),
        (Self::Partner, 2, "partner"),
        (Self::Free, 3, "free"),
    ];

    /// Whether organizations of this kind may create keys.
    #[must_use]
    pub const fn may_create_keys(self) -> bool {
        !matches!(self, Self::Free)
    }
}

crate::value::stored_enum::stored_enum!(OrganizationKind, "organization kind");
