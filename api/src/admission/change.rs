//! What a command does to what the service has to keep.

use keyledger_engine::domain::application::ApplicationCommand;
use keyledger_engine::domain::key::KeyCommand;
use keyledger_engine::domain::organization::OrganizationCommand;
use keyledger_engine::domain::portal_session::PortalSessionCommand;
use keyledger_engine::domain::portfolio::ClientLinkCommand;
use keyledger_engine::domain::resource_api::ApiCommand;
use keyledger_engine::domain::root_key::RootKeyCommand;
use keyledger_engine::domain::webhook::WebhookCommand;
use keyledger_engine::ledger::Command;

/// The kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Change {
    /// It adds or replaces something.
    Growth,
    /// It takes something away, and must be possible when nothing else is: a revocation, a deletion, an
    /// erasure, the end of a session.
    Removal,
}

impl Change {
    /// Returns what a command does.
    #[must_use]
    pub(crate) const fn of(command: &Command) -> Self {
        let is_removal = match command {
            Command::Key(_, command) => match command {
                KeyCommand::Revoke { .. } | KeyCommand::Delete | KeyCommand::RecordExpiry => true,
                KeyCommand::Create(_)
                | KeyCommand::Edit(_)
                | KeyCommand::Reactivate
                | KeyCommand::Rotate { .. } => false,
            },
            Command::Organization(_, command) => match command {
                OrganizationCommand::Delete => true,
                OrganizationCommand::Create { .. }
                | OrganizationCommand::Edit { .. }
                | OrganizationCommand::SetPolicy(..)
                | OrganizationCommand::RemovePolicy(_) => false,
            },
            Command::ClientLink(_, command) => matches!(command, ClientLinkCommand::Unlink),
            Command::Api(_, command) => matches!(command, ApiCommand::Delete),
            Command::RootKey(_, command) => matches!(command, RootKeyCommand::Revoke),
            Command::Application(_, command) => matches!(command, ApplicationCommand::Delete),
            Command::Webhook(_, command) => {
                matches!(command, WebhookCommand::Delete | WebhookCommand::Disable(_))
            }
            Command::PortalSession(_, command) => matches!(command, PortalSessionCommand::End { .. }),
            Command::Erasure(..) => true,
        };
        if is_removal { Self::Removal } else { Self::Growth }
    }
}
