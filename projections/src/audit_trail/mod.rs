//! The audit trail: which events concern an organization, an actor or a type, when, and what a key was at some time.
//!
//! Events are read from the log itself. The projection holds only where they are: for every block of 65,536 positions
//! and every term (an organization, an actor, a type, a hash of a request's id) that occurs in it, the set of positions as a roaring bitmap
//! (<https://github.com/RoaringBitmap/RoaringFormatSpec>).

mod as_of;
mod postings;
mod query;
mod rendering;
mod term;

use std::sync::{Arc, PoisonError, RwLock};

use keyledger_engine::log::{LogId, LogReader};
use keyledger_engine::record::Record;

use crate::projection::{self, Projection};
use crate::store::{self, Changes, Snapshot};
use postings::OpenBlocks;

pub use as_of::{At, key_at};
pub use query::{AuditPage, AuditQuery, first_not_before};
pub use rendering::event_json;

/// Answers queries; cheap to clone.
#[derive(Clone)]
pub struct AuditTrail {
    rows: Arc<RwLock<Option<Snapshot>>>,
    reader: Arc<dyn LogReader>,
}

impl AuditTrail {
    /// An audit trail over the log of `reader`, and the projection that fills it once it is started.
    #[must_use]
    pub fn new(reader: Arc<dyn LogReader>) -> (Self, AuditTrailProjection) {
        let rows = Arc::default();
        let projection = AuditTrailProjection { rows: Arc::clone(&rows), blocks: OpenBlocks::default() };
        (Self { rows, reader }, projection)
    }

    /// Which log the events are of.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.reader.log_id()
    }

    /// The page that a query asks for. May read from the disk.
    ///
    /// # Errors
    /// When the projection's rows or the log cannot be read.
    pub fn query(&self, query: &AuditQuery) -> Result<AuditPage, store::Error> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner).clone();
        query::run(query, &rows.ok_or(store::Error::Stopped)?, &*self.reader)
    }

    /// How many events match a query on all of its pages, counted up to `max`. May read from the disk.
    ///
    /// # Errors
    /// When the projection's rows or the log cannot be read.
    pub fn count(&self, query: &AuditQuery, max: usize) -> Result<usize, store::Error> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner).clone();
        query::count(query, &rows.ok_or(store::Error::Stopped)?, &*self.reader, max)
    }
}

/// Fills an [`AuditTrail`].
pub struct AuditTrailProjection {
    rows: Arc<RwLock<Option<Snapshot>>>,
    blocks: OpenBlocks,
}

impl AuditTrailProjection {
    fn show(&self, rows: Option<Snapshot>) {
        *self.rows.write().unwrap_or_else(PoisonError::into_inner) = rows;
    }
}

impl Projection for AuditTrailProjection {
    const NAME: &'static str = "audit-trail";
    const VERSION: u32 = 2;

    fn load(&mut self, rows: Snapshot) -> Result<(), store::Error> {
        self.blocks = OpenBlocks::load(&rows)?;
        self.show(Some(rows));
        Ok(())
    }

    fn apply(&mut self, _rows: &Snapshot, record: &Record) -> Result<(), projection::Error> {
        self.blocks.add(record).map_err(projection::Error::poison)
    }

    fn write(&mut self, changes: &mut Changes) -> Result<(), store::Error> {
        self.blocks.write(changes);
        Ok(())
    }

    fn publish(&mut self, rows: Snapshot) {
        self.blocks.committed();
        self.show(Some(rows));
    }

    fn discard(&mut self, rows: &Snapshot) -> Result<(), store::Error> {
        self.blocks = OpenBlocks::load(rows)?;
        Ok(())
    }

    fn close(&mut self) {
        self.show(None);
    }

    fn row_name(key: &[u8]) -> String {
        postings::row_name(key)
    }
}
