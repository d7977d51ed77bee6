//! The key list: keys by organization, with filters, substring search, sorts and pages.
//!
//! The keys themselves are rows of the projection's file. What filters, sorts and search look at is also kept in memory,
//! column by column and chunk by chunk for each organization. A query takes the chunks as they are, by reference, and
//! works on them without holding up the next change: whoever changes a chunk that a query still uses changes a copy.

mod chunk;
mod counts;
mod cursor;
mod fold;
mod query;
mod row_set;
mod search;
mod text_column;
mod violations;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use keyledger_engine::id::{KeyId, OrganizationId};
use keyledger_engine::key::Key;
use keyledger_engine::position::Version;
use keyledger_engine::record::{Record, StreamId};

use crate::front::Front;
use crate::projection::{self, Projection};
use crate::store::{self, Changes, Snapshot};
use crate::usage::Usage;
use chunk::{Chunk, Columns};
use violations::Violations;

pub use counts::KeyCounts;
pub use query::{KeyPage, KeyQuery, KeySort, QueryError, TOTAL_MAX};

/// Answers queries; cheap to clone.
#[derive(Clone)]
pub struct KeyList {
    front: Front<Shared>,
    usage: Option<Arc<Usage>>,
}

impl KeyList {
    /// A key list, and the projection that fills it once it is started.
    #[must_use]
    pub fn new() -> (Self, KeyListProjection) {
        let shared = Arc::default();
        let front = Front::new(Arc::clone(&shared));
        (Self { front: front.clone(), usage: None }, KeyListProjection::with(front, shared))
    }

    /// The list with what tells when keys were last verified; without it, none ever was.
    #[must_use]
    pub fn with_usage(mut self, usage: Arc<Usage>) -> Self {
        self.usage = Some(usage);
        self
    }

    /// The page that a query asks for. May read from the disk.
    ///
    /// # Errors
    /// When the cursor is not one of this query, or the rows cannot be read.
    pub fn query(&self, query: &KeyQuery) -> Result<KeyPage, QueryError> {
        let (mut chunks, rows) = {
            let shown = self.front.shown();
            let shared = shown.read().unwrap_or_else(PoisonError::into_inner);
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

    /// How many of the keys that a query is about are in each state. Its own states do not matter, nor do its order, its
    /// page, what it says of usage and of policies. It goes through some bytes of each key in memory, and reads no disk.
    ///
    /// # Errors
    /// When the list is not ready.
    pub fn count(&self, query: &KeyQuery) -> Result<KeyCounts, store::Error> {
        let (chunks, position) = {
            let shown = self.front.shown();
            let shared = shown.read().unwrap_or_else(PoisonError::into_inner);
            let rows = shared.rows.as_ref().ok_or(store::Error::NotReady)?;
            (shared.chunks(query.organization_id.as_ref()), rows.checkpoint().position)
        };
        Ok(counts::count(query, &chunks, position))
    }

    /// A key, whatever its state. May read from the disk.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub fn get(&self, id: KeyId) -> Result<Option<Key>, store::Error> {
        let rows = self.front.shown().read().unwrap_or_else(PoisonError::into_inner).rows.clone();
        read_key(&rows.ok_or(store::Error::NotReady)?, id)
    }
}

#[derive(Default)]
struct Shared {
    organizations: Vec<Vec<Arc<Chunk>>>,
    organization_indexes: HashMap<OrganizationId, u32>,
    places: HashMap<KeyId, Place>,
    rows: Option<Snapshot>,
}

/// Where a key's columns are.
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

/// Fills a [`KeyList`]: a row for each key, by its id.
pub struct KeyListProjection {
    front: Front<Shared>,
    shared: Arc<RwLock<Shared>>,
    changed: Changed,
    columns: Columns,
}

impl KeyListProjection {
    fn with(front: Front<Shared>, shared: Arc<RwLock<Shared>>) -> Self {
        Self { front, shared, changed: Changed::default(), columns: Columns::default() }
    }
}

/// The keys that changed since the last commit, in the order in which they first did.
#[derive(Default)]
struct Changed {
    keys: Vec<Option<Key>>,
    indexes: HashMap<KeyId, usize>,
}

impl Changed {
    /// Takes a key out, if it is here, until [`Changed::put`] puts it back.
    fn take(&mut self, id: KeyId) -> Option<Key> {
        self.keys.get_mut(*self.indexes.get(&id)?)?.take()
    }

    fn put(&mut self, key: Key) {
        let index = *self.indexes.entry(key.id).or_insert(self.keys.len());
        match self.keys.get_mut(index) {
            Some(slot) => *slot = Some(key),
            None => self.keys.push(Some(key)),
        }
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.indexes.clear();
    }
}

impl Projection for KeyListProjection {
    const NAME: &'static str = "key-list";
    const VERSION: u32 = 2;

    fn beside(&self) -> Self {
        Self::with(self.front.clone(), Arc::default())
    }

    fn show(&self) {
        self.front.show(&self.shared);
    }

    fn load(&mut self, rows: Snapshot) -> Result<(), store::Error> {
        let (mut loaded, mut columns) = (Shared::default(), Columns::default());
        for row in rows.rows_from(&[])? {
            let (id, bytes) = row?;
            let key = decode_key(&rows, &bytes)?;
            if id != row_key(key.id) {
                return Err(rows.damaged("a row has another key's id"));
            }
            columns.fill(&key);
            loaded.put(&key, &columns);
        }
        loaded.rows = Some(rows);
        *self.shared.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    fn apply(&mut self, rows: &Snapshot, record: &Record) -> Result<(), projection::Error> {
        let StreamId::Key(id) = record.stream else { return Ok(()) };
        let key = match self.changed.take(id) {
            Some(key) => Some(key),
            // The first event of a stream has no row before it; looking for one would cost most of the replay's time.
            None if record.version == Version::NONE.next() => None,
            None => read_key(rows, id)?,
        };
        if key.as_ref().map_or(Version::NONE, |key| key.version).next() != record.version {
            return Err(projection::Error::poison(format!(
                "{id}: version {} is out of turn",
                record.version
            )));
        }
        let Some(key) = Key::apply(key, record) else {
            let event_type = record.event.event_type();
            return Err(projection::Error::poison(format!("{id}: {event_type} does not fit its state")));
        };
        self.changed.put(key);
        Ok(())
    }

    fn write(&mut self, changes: &mut Changes) -> Result<(), store::Error> {
        let mut keys: Vec<&Key> = self.changed.keys.iter().flatten().collect();
        keys.sort_unstable_by_key(|key| key.id);
        for key in keys {
            let mut encoded = Ok(());
            changes.put(&row_key(key.id), |bytes| encoded = rmp_serde::encode::write(bytes, key));
            encoded.map_err(|error| store::Error::Unavailable {
                file: Self::NAME.into(),
                reason: format!("{} cannot be encoded: {error}", key.id),
            })?;
        }
        Ok(())
    }

    fn publish(&mut self, rows: Snapshot) {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        for key in self.changed.keys.iter().flatten() {
            self.columns.fill(key);
            shared.put(key, &self.columns);
        }
        shared.rows = Some(rows);
        drop(shared);
        self.changed.clear();
    }

    fn discard(&mut self, _rows: &Snapshot) -> Result<(), store::Error> {
        self.changed.clear();
        Ok(())
    }

    fn close(&mut self) {
        self.shared.write().unwrap_or_else(PoisonError::into_inner).rows = None;
    }

    fn row_name(key: &[u8]) -> String {
        match key.try_into() {
            Ok(bytes) => KeyId::from_u128(u128::from_be_bytes(bytes)).to_string(),
            Err(_) => "a row that is no key's".into(),
        }
    }
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
