//! The file of deliveries. Only this module names redb's types for it.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | - | number of the format, id of the log, position that deliveries start after |
//! | `queues` | webhook | cursor in the log, next number, start of the current failures |
//! | `pending` | webhook, number | a pending message |
//! | `dead_letters` | webhook, number | a dead letter |
//! | `notices` | milliseconds before the expiry | last expiry with such a notice, and its key |
//!
//! All values but those of `notices` are MessagePack.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use keyledger_engine::log::LogId;
use keyledger_engine::storage::redb_file;
use keyledger_engine::storage::storage_panic::in_file;
use keyledger_engine::value::id::{KeyId, WebhookId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::time::Timestamp;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::{DeadLetter, Pending};
use super::queue::{Changes, DEAD_LETTERS_MAX, Header, Queue};
use super::{Error, Watermarks};

const META: TableDefinition<'static, (), &[u8]> = TableDefinition::new("meta");
const QUEUES: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("queues");
const PENDING: TableDefinition<'static, (u128, u64), &[u8]> = TableDefinition::new("pending");
const DEAD_LETTERS: TableDefinition<'static, (u128, u64), &[u8]> = TableDefinition::new("dead_letters");
const NOTICES: TableDefinition<'static, i64, (i64, u128)> = TableDefinition::new("notices");

const FORMAT_NUMBER: u32 = 1;
/// Page cache in bytes.
const CACHE_LEN: usize = 8 * 1024 * 1024;

/// Changes to store in one commit.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) queues: Vec<(WebhookId, Changes)>,
    pub(super) forgotten: Vec<WebhookId>,
    pub(super) watermarks: Option<Watermarks>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.forgotten.is_empty() && self.watermarks.is_none()
    }
}

/// The file, open for writing.
pub(super) struct DeliveriesFile {
    /// `None` after a failure, until the file is opened again.
    database: Option<Database>,
    path: PathBuf,
}

/// What a file held when it was opened.
pub(super) struct Opened {
    pub(super) file: DeliveriesFile,
    /// The log's head when the file was created. Earlier events are not delivered.
    pub(super) kept_from: Position,
    pub(super) queues: HashMap<WebhookId, Queue>,
    pub(super) watermarks: Watermarks,
}

impl DeliveriesFile {
    /// Opens or creates the file. A file that is damaged or belongs to another log is set aside.
    pub(super) fn open(path: &Path, log_id: LogId, head: Position) -> Result<Opened, Error> {
        if path.exists() {
            match Self::open_existing(path, log_id) {
                Err(Error::Damaged { file, reason }) => {
                    let aside = redb_file::set_aside(path).map_err(|error| unavailable(path, &error))?;
                    tracing::error!(
                        file, reason, kept = %aside.display(),
                        "the deliveries file cannot be used and was set aside; webhooks receive new events only"
                    );
                }
                opened => return opened,
            }
        }
        let create = || Database::builder().set_cache_size(CACHE_LEN).create(path);
        let database = redb_file::open(path.display(), create).map_err(|failure| Error::of(path, failure))?;
        let make = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            let meta = encode(&(FORMAT_NUMBER, log_id.0, head)).map_err(|error| io_error(&error))?;
            transaction.open_table(META)?.insert((), meta.as_slice())?;
            transaction.open_table(QUEUES)?;
            transaction.open_table(PENDING)?;
            transaction.open_table(DEAD_LETTERS)?;
            transaction.open_table(NOTICES)?;
            transaction.commit()?;
            Ok(())
        };
        make().map_err(|error| unavailable(path, &error))?;
        Self::load(path, database, log_id)
    }

    fn open_existing(path: &Path, log_id: LogId) -> Result<Opened, Error> {
        let database = open_database(path)?;
        redb_file::guarded(|| Self::load(path, database, log_id))
            .unwrap_or_else(|panic| Err(damaged(path, panic)))
    }

    fn load(path: &Path, database: Database, log_id: LogId) -> Result<Opened, Error> {
        let odd = |error: redb::Error| damaged(path, error);
        let transaction = database.begin_read().map_err(|error| odd(error.into()))?;
        let meta = transaction.open_table(META).map_err(|error| odd(error.into()))?;
        let meta = meta.get(()).map_err(|error| odd(error.into()))?;
        let meta = meta.ok_or_else(|| damaged(path, "it has no format"))?;
        let (format, of_log, kept_from): (u32, [u8; 16], Position) = decode(path, meta.value())?;
        if format != FORMAT_NUMBER {
            return Err(unavailable(
                path,
                &format!(
                    "its format is {format}, this version knows {FORMAT_NUMBER}; run the version that wrote it"
                ),
            ));
        }
        if of_log != log_id.0 {
            return Err(damaged(path, "it is of another log"));
        }
        let mut headers: HashMap<u128, (Header, BTreeMap<u64, Pending>, usize)> = HashMap::new();
        let queues = transaction.open_table(QUEUES).map_err(|error| odd(error.into()))?;
        for row in queues.iter().map_err(|error| odd(error.into()))? {
            let (id, value) = row.map_err(|error| odd(error.into()))?;
            headers.insert(id.value(), (decode(path, value.value())?, BTreeMap::new(), 0));
        }
        let pending = transaction.open_table(PENDING).map_err(|error| odd(error.into()))?;
        for row in pending.iter().map_err(|error| odd(error.into()))? {
            let (key, value) = row.map_err(|error| odd(error.into()))?;
            let (id, number) = key.value();
            if let Some((_, pending, _)) = headers.get_mut(&id) {
                pending.insert(number, decode(path, value.value())?);
            }
        }
        let letters = transaction.open_table(DEAD_LETTERS).map_err(|error| odd(error.into()))?;
        for row in letters.iter().map_err(|error| odd(error.into()))? {
            let (key, _) = row.map_err(|error| odd(error.into()))?;
            if let Some((_, _, count)) = headers.get_mut(&key.value().0) {
                *count += 1;
            }
        }
        let mut watermarks = Watermarks::new();
        let notices = transaction.open_table(NOTICES).map_err(|error| odd(error.into()))?;
        for row in notices.iter().map_err(|error| odd(error.into()))? {
            let (before, last) = row.map_err(|error| odd(error.into()))?;
            let (end, key_id) = last.value();
            watermarks.insert(before.value(), (Timestamp::from_millis(end), KeyId::from_u128(key_id)));
        }
        drop((meta, queues, pending, letters, notices, transaction));
        let queues = headers.into_iter().map(|(id, (header, pending, letter_count))| {
            (WebhookId::from_u128(id), Queue::load(header, pending, letter_count))
        });
        let queues = queues.collect();
        let file = Self { database: Some(database), path: path.to_path_buf() };
        Ok(Opened { file, kept_from, queues, watermarks })
    }

    /// Stores a batch in one commit.
    pub(super) fn store(&mut self, batch: &Batch) -> Result<(), Error> {
        let _file = in_file(&self.path.display().to_string());
        let database = self.open_again()?;
        let store = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            {
                let mut queues = transaction.open_table(QUEUES)?;
                let mut pending = transaction.open_table(PENDING)?;
                let mut letters = transaction.open_table(DEAD_LETTERS)?;
                for (id, changes) in &batch.queues {
                    let id = id.to_u128();
                    if let Some(header) = &changes.header {
                        queues.insert(id, encode(header).map_err(|error| io_error(&error))?.as_slice())?;
                    }
                    put_rows(&mut pending, id, &changes.pending)?;
                    put_rows(&mut letters, id, &changes.letters)?;
                    if changes.letters.values().any(Option::is_some) {
                        drop_oldest(&mut letters, id)?;
                    }
                }
                for id in &batch.forgotten {
                    let id = id.to_u128();
                    queues.remove(id)?;
                    pending.retain_in((id, 0)..=(id, u64::MAX), |_, _| false)?;
                    letters.retain_in((id, 0)..=(id, u64::MAX), |_, _| false)?;
                }
                if let Some(watermarks) = &batch.watermarks {
                    let mut notices = transaction.open_table(NOTICES)?;
                    notices.retain(|before, _| watermarks.contains_key(&before))?;
                    for (before, (end, key_id)) in watermarks {
                        notices.insert(before, (end.millis(), key_id.to_u128()))?;
                    }
                }
            }
            transaction.commit()?;
            Ok(())
        };
        let stored = store();
        if stored.is_err() {
            self.database = None;
        }
        stored.map_err(|error| unavailable(&self.path, &error))
    }

    /// Reopens the file if it has failed: after a failure, redb reports only that failure.
    fn open_again(&mut self) -> Result<&Database, Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open_database(&self.path)?,
        };
        Ok(self.database.insert(database))
    }

    /// Returns at most `limit` dead letters of a webhook with numbers greater than `after`.
    pub(super) fn dead_letters(
        &mut self,
        id: WebhookId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, DeadLetter)>, Error> {
        let path = self.path.clone();
        let unreadable = |error: redb::Error| unavailable(&path, &error);
        let transaction = self.open_again()?.begin_read().map_err(|error| unreadable(error.into()))?;
        let letters = transaction.open_table(DEAD_LETTERS).map_err(|error| unreadable(error.into()))?;
        let id = id.to_u128();
        let first = (id, after.saturating_add(1));
        let mut found = Vec::new();
        for row in letters.range(first..=(id, u64::MAX)).map_err(|error| unreadable(error.into()))? {
            if found.len() >= limit {
                break;
            }
            let (key, value) = row.map_err(|error| unreadable(error.into()))?;
            found.push((key.value().1, decode(&path, value.value())?));
        }
        Ok(found)
    }
}

type Rows<'a> = Table<'a, (u128, u64), &'static [u8]>;

fn put_rows<T: Serialize>(
    table: &mut Rows<'_>,
    id: u128,
    rows: &BTreeMap<u64, Option<T>>,
) -> Result<(), redb::Error> {
    for (number, row) in rows {
        match row {
            Some(row) => {
                let bytes = encode(row).map_err(|error| io_error(&error))?;
                table.insert((id, *number), bytes.as_slice())?;
            }
            None => drop(table.remove((id, *number))?),
        }
    }
    Ok(())
}

fn drop_oldest(letters: &mut Rows<'_>, id: u128) -> Result<(), redb::Error> {
    let count = letters.range((id, 0)..=(id, u64::MAX))?.count();
    let mut surplus = count.saturating_sub(DEAD_LETTERS_MAX);
    if surplus > 0 {
        letters.retain_in((id, 0)..=(id, u64::MAX), |_, _| {
            let keeps = surplus == 0;
            surplus = surplus.saturating_sub(1);
            keeps
        })?;
    }
    Ok(())
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    rmp_serde::to_vec(value)
}

fn decode<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, Error> {
    rmp_serde::from_slice(bytes).map_err(|error| damaged(path, error))
}

fn io_error(error: &dyn std::fmt::Display) -> redb::Error {
    redb::Error::Io(std::io::Error::other(error.to_string()))
}

fn open_database(path: &Path) -> Result<Database, Error> {
    let open = || Database::builder().set_cache_size(CACHE_LEN).open(path);
    redb_file::open(path.display(), open).map_err(|failure| Error::of(path, failure))
}

fn unavailable(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Unavailable { file: path.display().to_string(), reason: reason.to_string() }
}

fn damaged(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::Damaged { file: path.display().to_string(), reason: reason.to_string() }
}
