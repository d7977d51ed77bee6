//! The organization: the tenant that owns keys.

mod command;
mod decide;
mod event;
mod kind;
mod state;

pub use command::OrganizationCommand;
pub use decide::decide;
pub use event::{OrganizationCreated, OrganizationKindChanged, OrganizationPersonal};
pub use kind::OrganizationKind;
pub use state::{Organization, OrganizationStatus};
