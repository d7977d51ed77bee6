//! The permit that a caller's command needs to reach the ledger.

use keyledger_engine::ledger::Command;

use super::change::Change;
use crate::answer::problem::Problem;
use crate::auth::caller::Caller;
use crate::service::Service;

/// Leave for one command.
pub(crate) struct Permit(());

impl Permit {
    /// Admits a caller's command.
    ///
    /// # Errors
    /// `rate_limited`.
    pub(crate) fn new(service: &Service, caller: &Caller, command: &Command) -> Result<Self, Problem> {
        let change = Change::of(command);
        service.rate_limits.count_command(&caller.principal, caller.counted, change)?;
        Ok(Self(()))
    }
}
