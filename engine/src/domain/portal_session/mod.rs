//! The portal session: a person's visit to the self-service portal of an organization. A caller with the
//! permission creates a link. The link works once and for a limited time, and starts the session. The session
//! ends when it expires, when the person signs out, or when it is revoked.

mod command;
mod decide;
mod event;
mod state;

pub use command::PortalSessionCommand;
pub use decide::decide;
pub use event::{
    EndReason, PortalSessionCreated, PortalSessionCreatedPersonal, PortalSessionEnded, PortalSessionStarted,
};
pub use state::{PortalSession, PortalSessionStatus};
