//! The key list: keys by organization, with filters, substring search, sorting and pages.
//!
//! The keys are rows of the projection's file. The columns that filters, sorting and search read are also
//! kept in memory, in chunks of each organization. A query holds references to the chunks it reads and does
//! not block changes: changing a chunk that a query still holds copies it first.

mod changed;
mod chunk;
mod counts;
mod cursor;
mod fold;
mod id_map;
mod query;
mod row_set;
mod search;
mod text_column;
mod violations;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use keyledger_engine::domain::key::Key;
use keyledger_engine::domain::record::Record;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::value::id::{KeyId, OrganizationId};
use keyledger_engine::value::position::Version;

use crate::beside_the_log::usage::Usage;
use crate::stored::projection::{self, Projection};
use crate::stored::published::Published;
use crate::stored::store::{self, Changes, Snapshot};
use changed::Changed;
use chunk::{Chunk, Columns};
use id_map::IdMap;
use violations::Violations;

pub use counts::KeyCounts;
pub use query::{KeyPage, KeyQuery, KeySort, QueryError, TOTAL_MAX};

/// Answers queries. Cheap to clone.
#[derive(Clone)]
pub struct KeyList {
    published: Published<Shared>,
    usage: Option<Arc<Usage>>,
}

impl KeyList {
    /// Creates a key list and the projection that fills it. The list answers once the projection is started.
    #[must_use]
    pub fn new() -> (Self, KeyListProjection) {
        let shared = Arc::default();
        let published = Published::new(Arc::clone(&shared));
        let readers = Readers { published: published.clone(), shared, columns: Columns::default() };
        (Self { published, usage: None }, KeyListProjection::for_readers(Some(readers)))
    }

    /// Adds the usage, which knows when keys were last verified. Without it, no key counts as verified.
    #[must_use]
    pub fn with_usage(mut self, usage: Arc<Usage>) -> Self {
        self.usage = Some(usage);
        self
    }

    /// Returns one page of the keys that match a query. May read from the disk.
    ///
    /// # Errors
    /// When the cursor does not belong to this query, or the rows cannot be read.
    pub fn query(&self, query: &KeyQuery) -> Result<KeyPage, QueryError> {
        let (mut chunks, rows) = {
            let state = self.published.current();
            let shared = state.read().unwrap_or_else(PoisonError::into_inner);
            let rows = shared.rows.clone().ok_or(store::Error::NotReady)?;
            (shared.chunks(query.organization_id.as_ref()), rows)
        };
        let violations = (!query.breaks.is_empty()).then(|| Violations::of(query, &chunks));
        let found = {
            let usage = self.usage.as_ref().filter(|_| query.unused_since.is_some());
            let last_verified = usage.map(|usage| usage.last_verifications(query.now));
            search::search(query, &mut chunks, last_verified.as_ref(), violations.as_ref())?
        };
        let mut over_user_limit = violations.map(|it| it.over_user_limit).unwrap_or_default();
        over_user_limit.retain(|id| found.ids.contains(id));
        let keys = found.ids.iter().map(|id| {
            let key = read_key(&rows, *id)?;
            key.ok_or_else(|| rows.damaged(format!("no row for {id}")))
        });
        Ok(KeyPage {
            keys: keys.collect::<Result<_, _>>()?,
            over_user_limit,
            next_cursor: found.next_cursor,
            total: found.total,
            total_capped: found.total_capped,
            position: rows.checkpoint().position,
        })
    }

    /// Counts the keys that match a query in each state. The query's status, order, page, `unused_since` and
    /// `breaks` are ignored. Scans some bytes per key in memory and does not read from the disk.
    ///
    /// # Errors
    /// When the list is not ready.
    pub fn count(&self, query: &KeyQuery) -> Result<KeyCounts, store::Error> {
        let (chunks, position) = {
            let state = self.published.current();
            let shared = state.read().unwrap_or_else(PoisonError::into_inner);
            let rows = shared.rows.as_ref().ok_or(store::Error::NotReady)?;
            (shared.chunks(query.organization_id.as_ref()), rows.checkpoint().position)
        };
        Ok(counts::count(query, &chunks, position))
    }

    /// Returns a key in whatever state. May read from the disk.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub fn get(&self, id: KeyId) -> Result<Option<Key>, store::Error> {
        let rows = self.published.current().read().unwrap_or_else(PoisonError::into_inner).rows.clone();
        read_key(&rows.ok_or(store::Error::NotReady)?, id)
    }
}

#[derive(Default)]
struct Shared {
    organizations: Vec<Vec<Arc<Chunk>>>,
    organization_indexes: HashMap<OrganizationId, u32>,
    places: IdMap<Place>,
    rows: Option<Snapshot>,
}

/// Where the columns of a key are.
#[derive(Clone, Copy)]
struct Place {
    organization: u32,
    chunk: u32,
    row: u16,
}

impl Shared {
    fn chunks(&self, organization_id: Option<&OrganizationId>) -> Vec<Arc<Chunk>> {
        match organization_id {
            None => self.organizations.iter().flatten().cloned().collect(),
            Some(id) => {
                let index = self.organization_indexes.get(id);
                index.and_then(|index| self.organizations.get(*index as usize)).cloned().unwrap_or_default()
            }
        }
    }

    fn put(&mut self, key: &Key, columns: &Columns) {
        if let Some(place) = self.places.get(&key.id) {
            let chunks = self.organizations.get_mut(place.organization as usize);
            if let Some(chunk) = chunks.and_then(|chunks| chunks.get_mut(place.chunk as usize)) {
                Arc::make_mut(chunk).set(place.row as usize, columns);
            }
            return;
        }
        let organization = match self.organization_indexes.get(&key.organization_id) {
            Some(index) => *index,
            None => {
                let index = self.organizations.len() as u32;
                self.organizations.push(Vec::new());
                self.organization_indexes.insert(key.organization_id.clone(), index);
                index
            }
        };
        let Some(chunks) = self.organizations.get_mut(organization as usize) else { return };
        if chunks.last().is_none_or(|chunk| chunk.is_full()) {
            chunks.push(Arc::default());
        }
        let chunk_index = chunks.len() as u32 - 1;
        if let Some(chunk) = chunks.last_mut() {
            let row = Arc::make_mut(chunk).push(key.id, columns);
            self.places.insert(key.id, Place { organization, chunk: chunk_index, row });
        }
    }
}

/// Fills a [`KeyList`]: one row per key, by key id.
pub struct KeyListProjection {
    readers: Option<Readers>,
    changed: Changed,
}

/// The state that readers see, and its columns.
struct Readers {
    published: Published<Shared>,
    shared: Arc<RwLock<Shared>>,
    columns: Columns,
}

impl Readers {
    /// Updates the columns of these keys, and in the same step the rows if they are given.
    fn put<'a>(&mut self, keys: impl Iterator<Item = &'a Key>, rows: Option<Snapshot>) {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            self.columns.fill(key);
            shared.put(key, &self.columns);
        }
        if rows.is_some() {
            shared.rows = rows;
        }
    }
}

impl KeyListProjection {
    /// Creates a projection that only makes rows. That is faster, but no list can be read from it.
    #[must_use]
    pub fn without_readers() -> Self {
        Self::for_readers(None)
    }

    /// Keeps at least this many recently changed keys in memory during a long batch; most keys that change
    /// again should be among them. Default 131,072.
    #[must_use]
    pub fn keeping(mut self, keys: usize) -> Self {
        self.changed = Changed::keeping(keys);
        self
    }

    fn for_readers(readers: Option<Readers>) -> Self {
        Self { readers, changed: Changed::default() }
    }
}

impl Projection for KeyListProjection {
    const NAME: &'static str = "key-list";
    const VERSION: u32 = 2;

    fn new_instance(&self) -> Self {
        let readers = self.readers.as_ref().map(|readers| Readers {
            published: readers.published.clone(),
            shared: Arc::default(),
            columns: Columns::default(),
        });
        Self { readers, changed: self.changed.fresh() }
    }

    fn switch_readers(&self) {
        if let Some(readers) = &self.readers {
            readers.published.switch_to(&readers.shared);
        }
    }

    fn load(&mut self, rows: Snapshot) -> Result<(), store::Error> {
        let Some(readers) = &self.readers else { return Ok(()) };
        let (mut loaded, mut columns) = (Shared::default(), Columns::default());
        for row in rows.rows_from(&[])? {
            let (id, bytes) = row?;
            let key = decode_key(&rows, &bytes)?;
            if id != row_key(key.id) {
                return Err(rows.damaged("a row's key and its value have different ids"));
            }
            columns.fill(&key);
            loaded.put(&key, &columns);
        }
        loaded.rows = Some(rows);
        *readers.shared.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    fn apply(&mut self, rows: &Snapshot, record: &Record) -> Result<(), projection::Error> {
        let StreamId::Key(id) = record.stream else { return Ok(()) };
        let out_of_order =
            || projection::Error::poison(format!("{id}: version {} is out of order", record.version));
        let does_not_fit = || {
            let event_type = record.event.event_type();
            projection::Error::poison(format!("{id}: {event_type} does not fit its state"))
        };
        if let Some(key) = self.changed.get_mut(id) {
            if key.version.next() != record.version {
                return Err(out_of_order());
            }
            return if key.change(record) { Ok(()) } else { Err(does_not_fit()) };
        }
        // The first event of a stream has no row. Looking for one would take most of a replay's time.
        let key = if record.version == Version::NONE.next() {
            None
        } else {
            let key = read_key(rows, id)?;
            self.changed.note_return();
            key
        };
        if key.as_ref().map_or(Version::NONE, |key| key.version).next() != record.version {
            return Err(out_of_order());
        }
        self.changed.add(Key::apply(key, record).ok_or_else(does_not_fit)?);
        Ok(())
    }

    fn write(&mut self, changes: &mut Changes<'_>) -> Result<(), store::Error> {
        write_keys(self.changed.keys(), changes)
    }

    fn should_spill(&self, at_end: bool) -> bool {
        self.changed.should_spill(at_end)
    }

    fn spill(&mut self, at_end: bool, changes: &mut Changes<'_>) -> Result<(), store::Error> {
        let spilled = self.changed.take_spill(at_end);
        if let Some(readers) = &mut self.readers {
            readers.put(spilled.iter(), None);
        }
        write_keys(spilled.iter(), changes)
    }

    fn publish(&mut self, rows: Snapshot) {
        if let Some(readers) = &mut self.readers {
            readers.put(self.changed.keys(), Some(rows));
        }
        self.changed.clear();
    }

    fn discard(&mut self, _rows: &Snapshot) -> Result<(), store::Error> {
        self.changed.clear();
        Ok(())
    }

    fn close(&mut self) {
        if let Some(readers) = &self.readers {
            readers.shared.write().unwrap_or_else(PoisonError::into_inner).rows = None;
        }
    }

    fn row_name(key: &[u8]) -> String {
        match key.try_into() {
            Ok(bytes) => KeyId::from_u128(u128::from_be_bytes(bytes)).to_string(),
            Err(_) => "a row without a key id".into(),
        }
    }
}

fn write_keys<'a>(
    keys: impl Iterator<Item = &'a Key>,
    changes: &mut Changes<'_>,
) -> Result<(), store::Error> {
    let mut keys: Vec<(KeyId, &Key)> = keys.map(|key| (key.id, key)).collect();
    keys.sort_unstable_by_key(|(id, _)| *id);
    for (id, key) in keys {
        let mut encoded = Ok(());
        changes.put(&row_key(id), |bytes| encoded = rmp_serde::encode::write(bytes, key));
        encoded.map_err(|error| store::Error::Unavailable {
            file: KeyListProjection::NAME.into(),
            reason: format!("{id} cannot be encoded: {error}"),
        })?;
    }
    Ok(())
}

fn row_key(id: KeyId) -> [u8; 16] {
    id.to_u128().to_be_bytes()
}

fn read_key(rows: &Snapshot, id: KeyId) -> Result<Option<Key>, store::Error> {
    rows.get(&row_key(id), |bytes| decode_key(rows, bytes))?.transpose()
}

fn decode_key(rows: &Snapshot, bytes: &[u8]) -> Result<Key, store::Error> {
    rmp_serde::from_slice(bytes).map_err(|error| rows.damaged(format!("not a key: {error}")))
}
