//! Sign-ins that are waiting for the OpenID provider to send the browser back.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use keyledger_engine::value::time::Timestamp;

use crate::auth::oidc::code_flow::Proofs;

/// A browser must return from the provider within this many milliseconds.
pub(crate) const WAIT_MILLIS_MAX: i64 = 10 * 60 * 1_000;
/// Beyond this many pending sign-ins, the oldest is dropped to bound memory.
const PENDING_MAX: usize = 10_000;

/// Pending sign-ins by their `state` parameter.
#[derive(Default)]
pub(crate) struct Pending(Mutex<HashMap<String, Waiting>>);

pub(crate) struct Waiting {
    pub proofs: Proofs,
    /// The console path to open after sign-in.
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
