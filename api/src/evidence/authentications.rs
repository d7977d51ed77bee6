//! The number of authentications by kind of credential and outcome.

use std::sync::atomic::{AtomicU64, Ordering};

use super::credential::{Credential, Outcome};

/// The counters. A connection that repeats its last credential counts once a minute.
#[derive(Debug, Default)]
pub(crate) struct Authentications([[AtomicU64; Outcome::ALL.len()]; Credential::ALL.len()]);

impl Authentications {
    pub(super) fn count(&self, credential: Credential, outcome: Outcome) {
        let counter = self.0.get(credential as usize).and_then(|row| row.get(outcome as usize));
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the kind, the outcome and the number of each.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        Credential::ALL.into_iter().zip(&self.0).flat_map(|(credential, row)| {
            Outcome::ALL.into_iter().zip(row).map(move |(outcome, counter)| {
                (credential.as_str(), outcome.as_str(), counter.load(Ordering::Relaxed))
            })
        })
    }
}
