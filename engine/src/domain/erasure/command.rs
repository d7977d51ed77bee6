//! The commands to an erasure.

use crate::value::id::OrganizationId;
use crate::value::text::UserId;

/// A command to an erasure.
#[derive(Debug, Clone)]
pub enum ErasureCommand {
    /// Erases the personal text of an organization or of one of its users.
    Erase {
        /// The organization.
        organization_id: OrganizationId,
        /// The user; none for the whole organization.
        user_id: Option<UserId>,
    },
}
