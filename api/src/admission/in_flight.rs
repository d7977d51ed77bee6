//! A command between the ledger's queue and its answer.

use keyledger_engine::ledger::{self, Committed, Submitted};
use tokio::runtime::Handle;

use super::permit::Permit;

/// A submitted command with its permit. The ledger executes it even when nobody waits for the answer, so the
/// permit is kept until then in any case.
pub(crate) struct InFlight(Option<(Submitted, Permit)>);

impl InFlight {
    pub(crate) const fn new(submitted: Submitted, permit: Permit) -> Self {
        Self(Some((submitted, permit)))
    }

    /// Waits for the answer. The permit may be used for another attempt at the same change.
    ///
    /// # Errors
    /// As [`Ledger::execute`](ledger::Ledger::execute).
    pub(crate) async fn answer(mut self) -> (Result<Committed, ledger::Error>, Option<Permit>) {
        let answer = match &mut self.0 {
            Some((submitted, _)) => submitted.answer().await,
            None => Err(ledger::Error::Stopped),
        };
        (answer, self.0.take().map(|(_, permit)| permit))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Some((mut submitted, permit)) = self.0.take().filter(|(_, permit)| permit.holds_room()) else {
            return;
        };
        // Without a runtime the service is ending, and no other command comes.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _ = submitted.answer().await;
                drop(permit);
            });
        }
    }
}
