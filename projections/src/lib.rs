//! What Keyledger answers from. Each projection is built from the event log and nothing else, and can be deleted: it
//! comes back by replay with the same answers.
//!
//! * [`verification`]: the index that verification and authentication look at; in memory, exact before a command is
//!   answered.
//! * [`key_list`]: searchable rows of keys.
//! * [`audit_trail`]: which events concern an organization, an actor, a type.
//! * [`export`]: events as files that other programs read.
//! * [`projection`], [`store`], [`replay`], [`rebuild`] and [`runner`]: what a stored projection is, its file, how it is
//!   brought up to the log, how it is made anew, and what keeps it there.
//! * [`usage`]: how often keys are verified; [`deliveries`]: what webhooks are still to be told of. Neither is a projection:
//!   the log does not hold it.

pub mod audit_trail;
pub mod beside_the_log;
pub mod export;
pub mod key_list;
pub mod stored;
pub mod verification;
