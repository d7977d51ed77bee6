//! Admission: what the service refuses so that no caller takes what all need.
//!
//! * [`rate_limits`]: how often callers, organizations and addresses may ask; [`class`]: what a request
//!   counts as.
//! * [`permit`]: what a caller's command needs to reach the ledger; [`change`]: what the command does;
//!   [`in_flight`] keeps the permit until the command is answered. [`caps`]: how much an organization may
//!   hold. [`disk_reserve`]: the space that commands leave.
//! * [`network`]: the origin that a peer's address counts as. [`holders`]: how much each holder holds at a
//!   time. [`refusal`]: what the metrics count.
//! * [`long_answers`]: the streams, files and backups that callers read.

pub(crate) mod caps;
pub(crate) mod change;
pub(crate) mod class;
pub(crate) mod disk_reserve;
pub(crate) mod holders;
pub(crate) mod in_flight;
pub(crate) mod long_answers;
pub(crate) mod network;
mod options;
pub(crate) mod permit;
pub(crate) mod rate_limits;
pub(crate) mod refusal;

pub(crate) use options::Options;
