//! The policy: what an organization demands of its keys in one environment.

mod breach;
mod event;
mod state;

pub use breach::Breach;
pub use event::{PolicyRemoved, PolicySet};
pub use state::{Policies, Policy};
