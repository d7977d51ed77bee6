//! The portal session: a person's stay at the self-service portal of an organization. Somebody with the permission mints
//! a link for it; the link, followed once and in time, starts the session; the session ends by itself, by signing out, or
//! by being revoked.

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
