//! What one organization holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A kind of object whose number may be bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Keys that are not deleted, whatever their state.
    Key,
    /// Root keys that are bound to the organization and not revoked.
    RootKey,
    /// Applications that are bound to the organization and not deleted.
    Application,
    /// Webhooks of the organization that are not deleted.
    Webhook,
    /// Portal sessions and links that were not ended and have not expired.
    PortalSession,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Key, Self::RootKey, Self::Application, Self::Webhook, Self::PortalSession];
}

/// The counts of one organization.
#[derive(Debug, Default)]
pub(super) struct Holding {
    counts: [AtomicU64; Kind::ALL.len()],
    reserved: [AtomicU64; Kind::ALL.len()],
    /// The day of `bytes`.
    day: AtomicI64,
    bytes: AtomicU64,
}

impl Holding {
    fn count_of(&self, kind: Kind) -> &AtomicU64 {
        // The arrays have an element for each kind.
        self.counts.get(kind as usize).unwrap_or(&self.bytes)
    }

    fn reserved_of(&self, kind: Kind) -> &AtomicU64 {
        self.reserved.get(kind as usize).unwrap_or(&self.bytes)
    }

    pub(super) fn count(&self, kind: Kind) -> u64 {
        self.count_of(kind).load(Ordering::Acquire)
    }

    pub(super) fn add(&self, kind: Kind, count: u64) {
        self.count_of(kind).fetch_add(count, Ordering::AcqRel);
    }

    pub(super) fn remove(&self, kind: Kind) {
        let less = |count: u64| count.checked_sub(1);
        let _ = self.count_of(kind).fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    /// Counts bytes that were written on a day. Those of an earlier day than the last are too late.
    pub(super) fn write(&self, day: i64, bytes: u64) {
        let before = self.day.fetch_max(day, Ordering::AcqRel);
        if before < day {
            self.bytes.store(bytes, Ordering::Release);
        } else if before == day {
            self.bytes.fetch_add(bytes, Ordering::AcqRel);
        }
    }

    pub(super) fn bytes_of(&self, day: i64) -> u64 {
        if self.day.load(Ordering::Acquire) == day { self.bytes.load(Ordering::Acquire) } else { 0 }
    }
}

/// Room for one object that a command is about to add. It must be kept until the command is answered: by then
/// the object is counted, or will never be. Dropping it gives the room back.
#[derive(Debug)]
pub struct Reservation {
    holding: Arc<Holding>,
    kind: Kind,
}

impl Reservation {
    pub(super) fn new(holding: &Arc<Holding>, kind: Kind, max: u64) -> Result<Self, u64> {
        // Reserved before the count is read: whoever gives back room has been counted before that, so an
        // object is counted at least once whenever this reads.
        let reserved = holding.reserved_of(kind).fetch_add(1, Ordering::AcqRel) + 1;
        let reservation = Self { holding: Arc::clone(holding), kind };
        let count = holding.count(kind);
        if count.saturating_add(reserved) > max { Err(count) } else { Ok(reservation) }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.holding.reserved_of(self.kind).fetch_sub(1, Ordering::AcqRel);
    }
}
