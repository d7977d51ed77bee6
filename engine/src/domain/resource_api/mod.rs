//! The API: a registered resource server, whose scopes keys may have.

mod command;
mod decide;
mod event;
mod state;

pub use command::ApiCommand;
pub use decide::decide;
pub use event::{ApiRegistered, ApiRenamed, ApiScopesChanged};
pub use state::Api;
