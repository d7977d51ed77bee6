//! The application: an OAuth 2.0 client (RFC 6749 §1.1) that calls Keyledger by itself, machine to machine. It trades its
//! secret for short-lived access tokens; what those may do is what the application itself may do at that moment.

mod command;
mod decide;
mod event;
mod state;

pub use command::ApplicationCommand;
pub use decide::decide;
pub use event::{
    ApplicationCreated, ApplicationPermissionsChanged, ApplicationPersonal, ApplicationSecretRotated,
};
pub use state::Application;
