//! The commands to a portal session.

use crate::domain::portal_session::{EndReason, PortalSessionCreated};
use crate::value::id::OrganizationId;
use crate::value::text::UserId;
use crate::value::token::Digest;

/// A command to a portal session.
#[derive(Debug, Clone)]
pub enum PortalSessionCommand {
    /// Creates the session's link.
    Create {
        /// The organization.
        organization_id: OrganizationId,
        /// The user, as the organization names them. Roles that see their own keys only require one.
        user_id: Option<UserId>,
        /// The facts of the event.
        facts: PortalSessionCreated,
    },
    /// Follows the link and starts the session.
    Start {
        /// The digest of the session's secret.
        digest: Digest,
    },
    /// Ends the session.
    End {
        /// The reason.
        reason: EndReason,
    },
}
