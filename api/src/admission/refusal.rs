//! What is refused, as the metrics count it.

use std::sync::atomic::{AtomicU64, Ordering};

/// A kind of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The listener has as many connections as it may have.
    Connections,
    /// The address has as many connections as it may have.
    ConnectionsOfAddress,
    /// As many streams, files and backups are being read as may be.
    LongAnswers,
    /// The caller reads as many as it may.
    LongAnswersOfCaller,
    /// The organization has as many objects of a kind as it may have.
    OrganizationCap,
    /// The organization has written as much today as it may.
    DailyBytes,
    /// Less disk space than the reserve is free.
    DiskSpace,
}

impl Refusal {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Connections, "connections"),
        (Self::ConnectionsOfAddress, "connections_of_address"),
        (Self::LongAnswers, "long_answers"),
        (Self::LongAnswersOfCaller, "long_answers_of_caller"),
        (Self::OrganizationCap, "organization_cap"),
        (Self::DailyBytes, "daily_bytes"),
        (Self::DiskSpace, "disk_space"),
    ];
}

/// Counts refusals by their kind.
#[derive(Debug, Default)]
pub(crate) struct Refusals([AtomicU64; Refusal::ALL.len()]);

impl Refusals {
    /// Counts one.
    pub(crate) fn note(&self, refusal: Refusal) {
        if let Some(counter) = self.0.get(refusal as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The name and the number of each kind.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refusal::ALL.iter().zip(&self.0).map(|((_, name), counter)| (*name, counter.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_kinds() {
        for (index, (refusal, _)) in Refusal::ALL.iter().enumerate() {
            assert_eq!(*refusal as usize, index);
        }
    }
}
