//! The policy: an organization's requirements on its keys in one environment.

mod breach;
mod event;
mod state;

pub use breach::Breach;
pub use event::{PolicyRemoved, PolicySet};
pub use state::{Policies, Policy};
