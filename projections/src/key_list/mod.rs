//! The key list: keys by organization, with filters, substring search, sorts and pages.
//!
//! The keys themselves are rows of the projection's file. What filters, sorts and search look at is also kept in memory,
//! column by column and chunk by chunk for each organization. A query takes the chunks as they are, by reference, and
//! works on them without holding up the next change: whoever changes a chunk that a query still uses changes a copy.

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

use keyledger_engine::id::{KeyId, OrganizationId};
use keyledger_engine::key::Key;
use keyledger_engine::position::Version;
use keyledger_engine::record::{Record, StreamId};

use crate::front::Front;
use crate::projection::{self, Projection};
use crate::store::{self, Changes, Snapshot};
use crate::usage::Usage;
use chunk::{Chunk, Columns};
use id_map::IdMap;
use violations::Violations;

pub use counts::KeyCounts;
pub use query::{KeyPage, KeyQuery, KeySort, QueryError, TOTAL_MAX};

/// Keys in a piece of those that changed.
const PIECE_LEN: usize = 1_024;

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
        let readers = Readers { front: front.clone(), shared, columns: Columns::default() };
        (
            Self { front, usage: None },
            KeyListProjection { readers: Some(readers), changed: Changed::default() },
        )
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
    places: IdMap<Place>,
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
    readers: Option<Readers>,
    changed: Changed,
}

/// What readers see.
struct Readers {
    front: Front<Shared>,
    shared: Arc<RwLock<Shared>>,
    columns: Columns,
}

impl KeyListProjection {
    /// One that makes the rows and nothing else, which takes less time: there is no list to read from it.
    #[must_use]
    pub fn without_readers() -> Self {
        Self { readers: None, changed: Changed::default() }
    }
}

/// The keys that changed since the last commit, in the order in which they first did. In pieces, as moving a large vector
/// that grows would cost more than all that is done with its keys.
#[derive(Default)]
struct Changed {
    pieces: Vec<Vec<Option<Key>>>,
    len: usize,
    indexes: IdMap<usize>,
}

impl Changed {
    /// Takes a key out, if it is here, until [`Changed::put`] puts it back.
    fn take(&mut self, id: KeyId) -> Option<Key> {
        let index = *self.indexes.get(&id)?;
        self.slot(index)?.take()
    }

    fn put(&mut self, key: Key) {
        let index = *self.indexes.entry(key.id).or_insert(self.len);
        if let Some(slot) = self.slot(index) {
            *slot = Some(key);
            return;
        }
        match self.pieces.last_mut().filter(|piece| piece.len() < PIECE_LEN) {
            Some(piece) => piece.push(Some(key)),
            None => {
                let mut piece = Vec::with_capacity(if self.len == 0 { 1 } else { PIECE_LEN });
                piece.push(Some(key));
                self.pieces.push(piece);
            }
        }
        self.len += 1;
    }

    fn slot(&mut self, index: usize) -> Option<&mut Option<Key>> {
        self.pieces.get_mut(index / PIECE_LEN)?.get_mut(index % PIECE_LEN)
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        self.pieces.iter().flatten().flatten()
    }

    fn clear(&mut self) {
        self.pieces.truncate(1);
        self.pieces.iter_mut().for_each(Vec::clear);
        self.len = 0;
        self.indexes.clear();
    }
}

impl Projection for KeyListProjection {
    const NAME: &'static str = "key-list";
    const VERSION: u32 = 2;

    fn beside(&self) -> Self {
        let readers = self.readers.as_ref().map(|readers| Readers {
            front: readers.front.clone(),
            shared: Arc::default(),
            columns: Columns::default(),
        });
        Self { readers, changed: Changed::default() }
    }

    fn show(&self) {
        if let Some(readers) = &self.readers {
            readers.front.show(&readers.shared);
        }
    }

    fn load(&mut self, rows: Snapshot) -> Result<(), store::Error> {
        let Some(readers) = &self.readers else { return Ok(()) };
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
        *readers.shared.write().unwrap_or_else(PoisonError::into_inner) = loaded;
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

    fn write(&mut self, changes: &mut Changes<'_>) -> Result<(), store::Error> {
        let mut keys: Vec<(KeyId, &Key)> = self.changed.keys().map(|key| (key.id, key)).collect();
        keys.sort_unstable_by_key(|(id, _)| *id);
        for (_, key) in keys {
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
        if let Some(Readers { shared, columns, .. }) = &mut self.readers {
            let mut shared = shared.write().unwrap_or_else(PoisonError::into_inner);
            for key in self.changed.keys() {
                columns.fill(key);
                shared.put(key, columns);
            }
            shared.rows = Some(rows);
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
