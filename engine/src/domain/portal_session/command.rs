//! The commands to a portal session.

use crate::domain::portal_session::{EndReason, PortalSessionCreated};
use crate::value::id::OrganizationId;
use crate::value::text::UserId;
use crate::value::token::Digest;

/// What can be asked of a portal session.
#[derive(Debug, Clone)]
pub enum PortalSessionCommand {
    /// Mint a link to it.
    Create {
        /// The organization.
        organization_id: OrganizationId,
        /// Who the person is.
        user_id: Option<UserId>,
        /// The facts to record.
        facts: PortalSessionCreated,
    },
    /// Follow the link.
    Start {
        /// Digest of the session's secret.
        digest: Digest,
    },
    /// End it.
    End {
        /// Why.
        reason: EndReason,
    },
}
