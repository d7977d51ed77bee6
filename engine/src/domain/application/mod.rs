//! The application: an OAuth 2.0 client (RFC 6749 §1.1) that calls Keyledger machine to machine. It exchanges
//! its secret for short-lived access tokens, which have the permissions that the application has when they
//! are used.

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
