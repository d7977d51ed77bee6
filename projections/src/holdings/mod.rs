//! What each organization holds: how many objects of each kind, and how much it has written today. Bounds are
//! checked against it.
//!
//! The counts are in memory and exact: the ledger's writer applies each record ([`HoldingsObserver`]) before
//! it answers the command. What a command is about to add is [reserved](Holdings::reserve) first, so that
//! concurrent commands do not exceed a bound together. At the start the counts come from the verification
//! index, and today's bytes from the log, in the background ([`Holdings::count_day`]).

mod holding;
mod observer;
mod sessions;
mod weight;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyledger_engine::domain::record::Record;
use keyledger_engine::log::{self, LogReader};
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use papaya::HashMap;

use crate::audit_trail::first_not_before;
use crate::verification::VerificationIndex;

pub use holding::{Kind, Reservation};
pub use observer::HoldingsObserver;

use holding::Holding;
use sessions::Sessions;

const MILLIS_PER_DAY: i64 = 24 * 60 * 60 * 1_000;
/// Records read at a time when a day is counted.
const BATCH_LEN: usize = 512;

/// What each organization holds. All methods take `&self`; share it as an `Arc`.
#[derive(Default)]
pub struct Holdings {
    by_organization: HashMap<OrganizationId, Arc<Holding>>,
    sessions: Mutex<Sessions>,
}

impl Holdings {
    /// Counts the objects in an index.
    #[must_use]
    pub fn of(index: &VerificationIndex, now: Timestamp) -> Self {
        let holdings = Self::default();
        for (organization_id, count) in index.keys_by_organization() {
            holdings.holding(&organization_id).add(Kind::Key, count);
        }
        let add = |organization_id: Option<&OrganizationId>, kind: Kind| {
            if let Some(id) = organization_id {
                holdings.holding(id).add(kind, 1);
            }
        };
        for it in index.root_keys(None, usize::MAX).iter().filter(|it| it.revoked_at.is_none()) {
            add(it.organization_id.as_ref(), Kind::RootKey);
        }
        for it in index.applications(None, usize::MAX).iter().filter(|it| it.deleted_at.is_none()) {
            add(it.organization_id.as_ref(), Kind::Application);
        }
        for it in index.webhooks(None, usize::MAX).iter().filter(|it| it.deleted_at.is_none()) {
            add(it.organization_id.as_ref(), Kind::Webhook);
        }
        for it in index.portal_sessions(None, usize::MAX).iter().filter(|it| it.expires_at > now) {
            add(Some(&it.organization_id), Kind::PortalSession);
            holdings.sessions().begin(it.id, it.organization_id.clone(), it.expires_at);
        }
        holdings
    }

    /// Adds what was written on the day of `now` up to the position `head`, which is the log's at the start.
    /// Reads the day's records.
    ///
    /// # Errors
    /// When the log cannot be read. Part of the day may be counted then.
    pub fn count_day(
        &self,
        log: &dyn LogReader,
        head: Position,
        now: Timestamp,
        is_stopping: impl Fn() -> bool,
    ) -> Result<(), log::Error> {
        let midnight = Timestamp::from_millis(day_of(now) * MILLIS_PER_DAY);
        let mut before = Position::new(first_not_before(log, head, midnight)?.saturating_sub(1));
        while before < head && !is_stopping() {
            let records = log.read(before, BATCH_LEN)?;
            let Some(last) = records.last() else { return Ok(()) };
            before = last.position;
            for record in records.iter().filter(|record| record.position <= head) {
                self.note_written(record);
            }
        }
        Ok(())
    }

    /// Reserves room for one more object of an organization, unless it has `max`, including what others have
    /// reserved. `now` ends sessions that have expired.
    ///
    /// # Errors
    /// The number of objects that there are.
    pub fn reserve(
        &self,
        organization_id: &OrganizationId,
        kind: Kind,
        max: u64,
        now: Timestamp,
    ) -> Result<Reservation, u64> {
        let holding = self.holding(organization_id);
        match Reservation::new(&holding, kind, max) {
            Err(_) if kind == Kind::PortalSession => {
                self.end_sessions(now);
                Reservation::new(&holding, kind, max)
            }
            reserved => reserved,
        }
    }

    /// The number of an organization's objects of a kind.
    #[must_use]
    pub fn count(&self, organization_id: &OrganizationId, kind: Kind) -> u64 {
        self.by_organization.pin().get(organization_id).map_or(0, |holding| holding.count(kind))
    }

    /// The bytes that an organization has written on the day of `now`, in UTC. An event counts as 256 bytes
    /// and its text.
    #[must_use]
    pub fn bytes_written(&self, organization_id: &OrganizationId, now: Timestamp) -> u64 {
        let day = day_of(now);
        self.by_organization.pin().get(organization_id).map_or(0, |holding| holding.bytes_of(day))
    }

    fn holding(&self, organization_id: &OrganizationId) -> Arc<Holding> {
        let all = self.by_organization.pin();
        match all.get(organization_id) {
            Some(holding) => Arc::clone(holding),
            None => Arc::clone(all.get_or_insert_with(organization_id.clone(), Arc::default)),
        }
    }

    fn note_written(&self, record: &Record) {
        if let Some(id) = &record.organization_id {
            self.holding(id).write(day_of(record.time), weight::of(record));
        }
    }

    fn end_sessions(&self, now: Timestamp) {
        let mut sessions = self.sessions();
        while let Some(organization_id) = sessions.next_expired(now) {
            self.holding(&organization_id).remove(Kind::PortalSession);
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The day of a time, in UTC, counted from 1970.
fn day_of(time: Timestamp) -> i64 {
    time.millis().div_euclid(MILLIS_PER_DAY)
}
