//! The commands to an erasure.

use crate::value::id::OrganizationId;
use crate::value::text::UserId;

/// What can be asked of an erasure.
#[derive(Debug, Clone)]
pub enum ErasureCommand {
    /// Carry it out.
    Erase {
        /// The organization.
        organization_id: OrganizationId,
        /// The user; none for the whole organization.
        user_id: Option<UserId>,
    },
}
