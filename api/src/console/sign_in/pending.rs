//! Sign-ins that are waiting for the OpenID provider to send the browser back.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use keyledger_engine::value::time::Timestamp;

use crate::auth::oidc::code_flow::Proofs;

/// Whoever comes back later than this, in milliseconds, has to begin again.
pub(crate) const WAIT_MILLIS_MAX: i64 = 10 * 60 * 1_000;
/// With more people on their way than this the one who went first has to begin again.
const PENDING_MAX: usize = 10_000;

/// The people who are at the provider just now.
#[derive(Default)]
pub(crate) struct Pending(Mutex<HashMap<String, Waiting>>);

pub(crate) struct Waiting {
    pub proofs: Proofs,
    pub to: String,
    pub since: Timestamp,
}

impl Pending {
    pub(crate) fn add(&self, waiting: Waiting, now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= PENDING_MAX {
            all.retain(|_, waiting| waiting.since.saturating_add_millis(WAIT_MILLIS_MAX) > now);
        }
        if all.len() >= PENDING_MAX
            && let Some(first) =
                all.iter().min_by_key(|(_, waiting)| waiting.since).map(|(state, _)| state.clone())
        {
            all.remove(&first);
        }
        all.insert(waiting.proofs.state.clone(), waiting);
    }

    pub(crate) fn take(&self, state: &str, now: Timestamp) -> Option<Waiting> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(state)?;
        (waiting.since.saturating_add_millis(WAIT_MILLIS_MAX) > now).then_some(waiting)
    }
}
