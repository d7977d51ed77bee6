//! Keeps the index exact: the ledger's writer passes it every record before it answers the command.

use std::sync::Arc;

use keyledger_engine::domain::record::Record;
use keyledger_engine::ledger::{Observer, UserOf};
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::vault::Subject;

use super::VerificationIndex;

/// Applies every record that the ledger commits to an index. A record that does not apply poisons the index:
/// see [`VerificationIndex::poisoned`].
pub struct VerificationObserver(pub Arc<VerificationIndex>);

impl Observer for VerificationObserver {
    fn committed(&mut self, records: &[Record]) {
        if self.0.poisoned().is_some() {
            return;
        }
        if let Err(error) = self.0.apply_all(records) {
            tracing::error!(
                position = error.position.get(),
                reason = %error.reason,
                "the verification index cannot apply a committed event; no token is accepted until a restart"
            );
            self.0.stop(error.to_string());
        }
    }

    fn erased(&mut self, subject: &Subject) {
        self.0.erase(subject);
    }

    fn keys_of_user(&self, user: &UserOf, now: Timestamp) -> Option<u32> {
        self.0.poisoned().is_none().then(|| self.0.keys_of_user(user, now))
    }
}
