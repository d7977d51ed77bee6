//! The portal session: a person's visit to the self-service portal of an organization. A caller with the
//! permission creates a link. The link works once and for a limited time, and starts the session. The session
//! ends when it expires, when the person signs out or does nothing for too long, when it is revoked, and with
//! the credential that minted it.

mod command;
mod decide;
mod event;
mod minter;
mod state;

pub use command::PortalSessionCommand;
pub use decide::decide;
pub use event::{
    EndReason, PortalSessionCreated, PortalSessionCreatedPersonal, PortalSessionEnded, PortalSessionStarted,
};
pub use minter::Minter;
pub use state::{PortalSession, PortalSessionStatus};
