//! Evidence: who tried to get in, who got in, and what was read or refused. The event log has every change;
//! this is about the rest.
//!
//! * [`security_log`]: what is recorded, and where it goes. [`destination`] is the file or the stream.
//! * [`attempt`]: what was presented, and why it was refused. [`credential`] names kinds and outcomes.
//! * [`sampler`]: how much of it is written. [`ocsf`]: what a line looks like.
//! * [`authentications`]: the counters of the metrics.

pub(crate) mod attempt;
pub(crate) mod authentications;
pub(crate) mod credential;
pub(crate) mod destination;
mod ocsf;
mod sampler;
pub(crate) mod security_log;
