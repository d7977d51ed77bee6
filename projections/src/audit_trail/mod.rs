//! The audit trail: which events concern an organization, an actor or a type, when they happened, and what a
//! key was at some time.
//!
//! Events are read from the log itself. The projection only holds where they are. For every block of 65,536
//! positions and every term that occurs in it (an organization, an actor, a type, a hash of a request's id),
//! it stores the set of positions as a roaring bitmap (<https://github.com/RoaringBitmap/RoaringFormatSpec>).

mod as_of;
mod frequency;
mod postings;
mod query;
mod rendering;
mod term;

use std::sync::{Arc, PoisonError, RwLock};

use keyledger_engine::domain::event::EventType;
use keyledger_engine::domain::record::Record;
use keyledger_engine::log::{LogId, LogReader};
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::time::Timestamp;

use crate::stored::projection::{self, Projection};
use crate::stored::published::Published;
use crate::stored::store::{self, Changes, Snapshot};
use postings::OpenBlocks;

pub use as_of::{At, key_at};
pub use frequency::Frequency;
pub use query::{AuditPage, AuditQuery, first_not_before};
pub use rendering::event_json;

/// Answers queries. Cheap to clone.
#[derive(Clone)]
pub struct AuditTrail {
    published: Published<Option<Snapshot>>,
    reader: Arc<dyn LogReader>,
}

impl AuditTrail {
    /// Creates an audit trail over the log of `reader` and the projection that fills it. The trail answers
    /// once the projection is started.
    #[must_use]
    pub fn new(reader: Arc<dyn LogReader>) -> (Self, AuditTrailProjection) {
        let rows = Arc::default();
        let published = Published::new(Arc::clone(&rows));
        let projection =
            AuditTrailProjection { published: published.clone(), rows, blocks: OpenBlocks::default() };
        (Self { published, reader }, projection)
    }

    /// Id of the log.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.reader.log_id()
    }

    /// Returns one page of the events that match a query. May read from the disk.
    ///
    /// # Errors
    /// When the projection's rows or the log cannot be read.
    pub fn query(&self, query: &AuditQuery) -> Result<AuditPage, store::Error> {
        query::run(query, &self.rows()?, &*self.reader)
    }

    /// Counts the events that match a query on all its pages, up to `max`. May read from the disk.
    ///
    /// # Errors
    /// When the projection's rows or the log cannot be read.
    pub fn count(&self, query: &AuditQuery, max: usize) -> Result<usize, store::Error> {
        query::count(query, &self.rows()?, &*self.reader, max)
    }

    /// Counts the events of each of `types` between adjacent `bounds`, which must ascend. A span includes its
    /// lower bound. Counts events of all organizations if `organization_id` is `None`. May read from the
    /// disk.
    ///
    /// # Errors
    /// When the projection's rows or the log cannot be read.
    pub fn frequency(
        &self,
        organization_id: Option<&OrganizationId>,
        types: &[EventType],
        bounds: &[Timestamp],
    ) -> Result<Frequency, store::Error> {
        frequency::of(organization_id, types, bounds, &self.rows()?, &*self.reader)
    }

    fn rows(&self) -> Result<Snapshot, store::Error> {
        let rows = self.published.current().read().unwrap_or_else(PoisonError::into_inner).clone();
        rows.ok_or(store::Error::NotReady)
    }
}

/// Fills an [`AuditTrail`]: one row per block and term.
pub struct AuditTrailProjection {
    published: Published<Option<Snapshot>>,
    rows: Arc<RwLock<Option<Snapshot>>>,
    blocks: OpenBlocks,
}

impl AuditTrailProjection {
    fn put(&self, rows: Option<Snapshot>) {
        *self.rows.write().unwrap_or_else(PoisonError::into_inner) = rows;
    }
}

impl Projection for AuditTrailProjection {
    const NAME: &'static str = "audit-trail";
    const VERSION: u32 = 2;

    fn new_instance(&self) -> Self {
        Self { published: self.published.clone(), rows: Arc::default(), blocks: OpenBlocks::default() }
    }

    fn switch_readers(&self) {
        self.published.switch_to(&self.rows);
    }

    fn load(&mut self, rows: Snapshot) -> Result<(), store::Error> {
        self.blocks = OpenBlocks::load(&rows)?;
        self.put(Some(rows));
        Ok(())
    }

    fn apply(&mut self, _rows: &Snapshot, record: &Record) -> Result<(), projection::Error> {
        self.blocks.add(record).map_err(projection::Error::poison)
    }

    fn write(&mut self, changes: &mut Changes<'_>) -> Result<(), store::Error> {
        self.blocks.write(changes);
        Ok(())
    }

    fn should_spill(&self, _at_end: bool) -> bool {
        self.blocks.filled_len() > 0
    }

    fn spill(&mut self, _at_end: bool, changes: &mut Changes<'_>) -> Result<(), store::Error> {
        self.blocks.write_filled(changes);
        Ok(())
    }

    fn publish(&mut self, rows: Snapshot) {
        self.blocks.committed();
        self.put(Some(rows));
    }

    fn discard(&mut self, rows: &Snapshot) -> Result<(), store::Error> {
        self.blocks = OpenBlocks::load(rows)?;
        Ok(())
    }

    fn close(&mut self) {
        self.put(None);
    }

    fn row_name(key: &[u8]) -> String {
        postings::row_name(key)
    }
}
