//! The file of usage. Only this module names redb's types for it.
//!
//! | table | key | value |
//! |---|---|---|
//! | `format` | - | number of the format |
//! | `journal` | sequence number | what one flush gathered, see [`journal`](super::journal) |
//! | `totals` | key | last folded journal entry, last verification, all-time counts |
//! | `hours` | key, hours since 1970 | counts |
//! | `days` | key, days since 1970 | counts of hours that are too old to be kept separately |
//!
//! Other values are MessagePack. A flush appends one journal entry, however many keys it concerns, so it
//! costs at most a few megabytes of writing. Folding updates the keys' rows afterwards, some keys with each
//! flush. A key's row in `totals` says how far the journal is in its rows: after a crash, a journal entry is
//! counted once, never twice.

use std::path::{Path, PathBuf};

use keyledger_engine::storage::redb_file;
use keyledger_engine::storage::storage_panic::in_file;
use keyledger_engine::value::id::KeyId;
use keyledger_engine::value::time::Timestamp;
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, Table, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::counts::Counts;
use super::pending::{Gathered, KeyMap, Pending, PendingKeys, add_all};
use super::{Error, HOURS_PER_DAY, Last, journal};

const FORMAT: TableDefinition<'static, (), u32> = TableDefinition::new("format");
const JOURNAL: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("journal");
const TOTALS: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("totals");
const HOURS: TableDefinition<'static, (u128, u32), &[u8]> = TableDefinition::new("hours");
const DAYS: TableDefinition<'static, (u128, u32), &[u8]> = TableDefinition::new("days");

const FORMAT_NUMBER: u32 = 1;
/// Page cache in bytes.
const CACHE_LEN: usize = 32 * 1024 * 1024;

/// Counts in their stored form; see [`Counts::to_stored`].
type StoredCounts = Vec<(u8, u64)>;

#[derive(Serialize, Deserialize, Default)]
struct StoredTotal {
    folded: u64,
    last_at: i64,
    last_from: u128,
    counts: StoredCounts,
}

impl StoredTotal {
    fn last(&self) -> Last {
        Last { at: Timestamp::from_millis(self.last_at), from: Address::from_bits(self.last_from) }
    }
}

/// What one flush writes.
pub(super) struct Flush<'a> {
    /// Gathered since the previous flush.
    pub(super) fresh: &'a [Gathered],
    /// Keys to fold with everything pending of them, including `fresh`, in key order.
    pub(super) folding: &'a [(KeyId, Pending)],
    /// Journal entries up to here are in the rows of all keys once `folding` is.
    pub(super) folded_through: Option<u64>,
    /// Deleted keys.
    pub(super) forgotten: &'a [KeyId],
    /// Part of the rows to search for old ones.
    pub(super) aging: Option<Aging>,
}

/// A step of the search for rows that are too old.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aging {
    /// Start after this key.
    pub(super) after: Option<KeyId>,
    /// Maximum number of keys.
    pub(super) limit: usize,
    /// Hours before this one are merged into their days.
    pub(super) first_hour: u32,
    /// Days before this one are removed.
    pub(super) first_day: u32,
}

/// Result of a flush.
pub(super) struct Flushed {
    /// Where the search for old rows continues; `None` at the end.
    pub(super) aging_after: Option<KeyId>,
    /// The rows after the flush.
    pub(super) rows: Rows,
}

/// The file, open for writing.
pub(super) struct UsageFile {
    database: Database,
    path: PathBuf,
    next_sequence: u64,
    /// Makes the next flush fail, before (`false`) or after (`true`) it is written.
    #[cfg(test)]
    pub(super) fail_next: Option<bool>,
}

/// What a file held when it was opened.
pub(super) struct Opened {
    pub(super) file: UsageFile,
    pub(super) rows: Rows,
    /// Usage that is only in the journal.
    pub(super) pending: PendingKeys,
    /// Last verification of every key, including those only in the journal.
    pub(super) last: KeyMap<Timestamp>,
}

impl UsageFile {
    /// Opens or creates the file. A damaged file is set aside: its counts are lost, but verification does not
    /// depend on them.
    pub(super) fn open(path: &Path) -> Result<Opened, Error> {
        if path.exists() {
            match Self::open_existing(path) {
                Err(Error::Damaged { file, reason }) => {
                    let aside = redb_file::set_aside(path).map_err(|error| unavailable(path, &error))?;
                    tracing::error!(
                        file, reason, kept = %aside.display(),
                        "the usage file is damaged and was set aside; counting restarts from zero"
                    );
                }
                opened => return opened,
            }
        }
        let create = || Database::builder().set_cache_size(CACHE_LEN).create(path);
        let database = redb_file::open(path.display(), create).map_err(|failure| Error::of(path, failure))?;
        let make = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            transaction.open_table(FORMAT)?.insert((), FORMAT_NUMBER)?;
            transaction.open_table(JOURNAL)?;
            transaction.open_table(TOTALS)?;
            transaction.open_table(HOURS)?;
            transaction.open_table(DAYS)?;
            transaction.commit()?;
            Ok(())
        };
        make().map_err(|error| unavailable(path, &error))?;
        Self::load(path, database)
    }

    fn open_existing(path: &Path) -> Result<Opened, Error> {
        let open = || Database::builder().set_cache_size(CACHE_LEN).open(path);
        let database = redb_file::open(path.display(), open).map_err(|failure| Error::of(path, failure))?;
        redb_file::guarded(|| Self::load(path, database)).unwrap_or_else(|panic| Err(damaged(path, panic)))
    }

    fn load(path: &Path, database: Database) -> Result<Opened, Error> {
        let rows = Rows::of(&database, path)?;
        let format = rows.format()?;
        if format != FORMAT_NUMBER {
            return Err(Error::Unavailable {
                file: path.display().to_string(),
                reason: format!(
                    "its format is {format}, this version knows {FORMAT_NUMBER}; run the version that wrote it"
                ),
            });
        }
        let (mut last, mut folded) = (KeyMap::default(), KeyMap::default());
        rows.for_each_total(|id, total| {
            last.insert(id, total.last().at);
            folded.insert(id, total.folded);
        })?;
        let mut pending = PendingKeys::default();
        let mut next_sequence = folded.values().max().map_or(1, |sequence| sequence + 1);
        rows.for_each_journal_entry(|sequence, gathered| {
            next_sequence = next_sequence.max(sequence + 1);
            if folded.get(&gathered.id).is_some_and(|folded| *folded >= sequence) {
                return;
            }
            add_all(&mut pending, [&gathered]);
            let last = last.entry(gathered.id).or_default();
            *last = gathered.last.at.max(*last);
        })?;
        let file = Self {
            database,
            path: path.to_path_buf(),
            next_sequence,
            #[cfg(test)]
            fail_next: None,
        };
        Ok(Opened { file, rows, pending, last })
    }

    /// Path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Sequence number of the next journal entry.
    pub(super) const fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Writes a flush durably in one commit. Also returns by how many bytes the journal grew.
    pub(super) fn flush(&mut self, flush: &Flush<'_>) -> Result<(Flushed, usize), Error> {
        #[cfg(test)]
        if let Some(written) = self.fail_next.take() {
            if written {
                self.write(flush)?;
            }
            return Err(unavailable(&self.path, &"a test wants it so"));
        }
        let write = || self.write(flush);
        let (aging_after, written) =
            redb_file::guarded(write).unwrap_or_else(|panic| Err(damaged(&self.path, panic)))?;
        self.next_sequence += 1;
        Ok((Flushed { aging_after, rows: Rows::of(&self.database, &self.path)? }, written))
    }

    fn write(&self, flush: &Flush<'_>) -> Result<(Option<KeyId>, usize), Error> {
        let _file = in_file(&self.path.display().to_string());
        let storage = |error: redb::Error| Error::of(&self.path, error);
        let transaction = self.database.begin_write().map_err(|error| storage(error.into()))?;
        let mut aging_after = None;
        let mut written = 0;
        let mut change = || -> Result<(), Change> {
            let mut totals = transaction.open_table(TOTALS)?;
            let mut hours = transaction.open_table(HOURS)?;
            let mut days = transaction.open_table(DAYS)?;
            for (id, pending) in flush.folding {
                self.fold(&mut totals, &mut hours, *id, pending)?;
            }
            for id in flush.forgotten {
                totals.remove(id.to_u128())?;
                for table in [&mut hours, &mut days] {
                    remove_range(table, id.to_u128(), u32::MAX)?;
                }
            }
            if let Some(aging) = flush.aging {
                aging_after = self.age(&totals, &mut hours, &mut days, aging)?;
            }
            let mut journal = transaction.open_table(JOURNAL)?;
            if let Some(through) = flush.folded_through {
                journal.retain_in(..=through, |_, _| false)?;
            }
            if !flush.fresh.is_empty() {
                let bytes = journal::encode(flush.fresh);
                written = bytes.len();
                journal.insert(self.next_sequence, bytes.as_slice())?;
            }
            Ok(())
        };
        change().map_err(|error| error.into_error(&self.path))?;
        transaction.commit().map_err(|error| storage(error.into()))?;
        Ok((aging_after, written))
    }

    fn fold(
        &self,
        totals: &mut Table<'_, u128, &'static [u8]>,
        hours: &mut Table<'_, (u128, u32), &'static [u8]>,
        id: KeyId,
        pending: &Pending,
    ) -> Result<(), Change> {
        let key = id.to_u128();
        let before: Option<StoredTotal> = totals.get(key)?.map(|row| decode(row.value())).transpose()?;
        let before = before.unwrap_or_default();
        let mut counts = Counts::from_stored(&before.counts);
        counts.merge(&pending.total());
        let mut last = before.last();
        last.advance(pending.last);
        let after = StoredTotal {
            folded: self.next_sequence,
            last_at: last.at.millis(),
            last_from: last.from.bits(),
            counts: counts.to_stored(),
        };
        totals.insert(key, encode(&after)?.as_slice())?;
        for (hour, counts) in &pending.hours {
            add_row(hours, (key, *hour), counts)?;
        }
        Ok(())
    }

    /// Returns the key after which to continue, if there are more.
    fn age(
        &self,
        totals: &Table<'_, u128, &'static [u8]>,
        hours: &mut Table<'_, (u128, u32), &'static [u8]>,
        days: &mut Table<'_, (u128, u32), &'static [u8]>,
        aging: Aging,
    ) -> Result<Option<KeyId>, Change> {
        let Some(first) = aging.after.map_or(Some(0), |id| id.to_u128().checked_add(1)) else {
            return Ok(None);
        };
        let mut last = None;
        let mut looked_at = 0;
        for row in totals.range(first..)?.take(aging.limit) {
            let key = row?.0.value();
            for (hour, counts) in remove_range(hours, key, aging.first_hour)? {
                add_row(days, (key, hour / HOURS_PER_DAY), &counts)?;
            }
            remove_range(days, key, aging.first_day)?;
            last = Some(KeyId::from_u128(key));
            looked_at += 1;
        }
        Ok(last.filter(|_| looked_at == aging.limit))
    }
}

fn add_row(
    table: &mut Table<'_, (u128, u32), &'static [u8]>,
    key: (u128, u32),
    counts: &Counts,
) -> Result<(), Change> {
    let before: Option<StoredCounts> = table.get(key)?.map(|row| decode(row.value())).transpose()?;
    let mut sum = Counts::from_stored(&before.unwrap_or_default());
    sum.merge(counts);
    table.insert(key, encode(&sum.to_stored())?.as_slice())?;
    Ok(())
}

/// Removes and returns the rows of a key before a time.
fn remove_range(
    table: &mut Table<'_, (u128, u32), &'static [u8]>,
    key: u128,
    before: u32,
) -> Result<Vec<(u32, Counts)>, Change> {
    let mut removed = Vec::new();
    for row in table.extract_from_if((key, 0)..(key, before), |_, _| true)? {
        let (at, counts) = row?;
        removed.push((at.value().1, Counts::from_stored(&decode::<StoredCounts>(counts.value())?)));
    }
    Ok(removed)
}

/// The rows of one commit.
pub(super) struct Rows {
    format: ReadOnlyTable<(), u32>,
    journal: ReadOnlyTable<u64, &'static [u8]>,
    totals: ReadOnlyTable<u128, &'static [u8]>,
    hours: ReadOnlyTable<(u128, u32), &'static [u8]>,
    days: ReadOnlyTable<(u128, u32), &'static [u8]>,
    path: PathBuf,
}

impl Rows {
    fn of(database: &Database, path: &Path) -> Result<Self, Error> {
        let read = || -> Result<Self, redb::Error> {
            let transaction = database.begin_read()?;
            Ok(Self {
                format: transaction.open_table(FORMAT)?,
                journal: transaction.open_table(JOURNAL)?,
                totals: transaction.open_table(TOTALS)?,
                hours: transaction.open_table(HOURS)?,
                days: transaction.open_table(DAYS)?,
                path: path.to_path_buf(),
            })
        };
        read().map_err(|error| Error::of(path, error))
    }

    fn format(&self) -> Result<u32, Error> {
        let row = self.format.get(()).map_err(|error| Error::of(&self.path, error))?;
        row.map(|row| row.value()).ok_or_else(|| damaged(&self.path, "it does not say what its format is"))
    }

    fn for_each_total(&self, mut f: impl FnMut(KeyId, StoredTotal)) -> Result<(), Error> {
        let mut each = || -> Result<(), Change> {
            for row in self.totals.range::<u128>(..)? {
                let (key, total) = row?;
                f(KeyId::from_u128(key.value()), decode(total.value())?);
            }
            Ok(())
        };
        each().map_err(|error| error.into_error(&self.path))
    }

    fn for_each_journal_entry(&self, mut f: impl FnMut(u64, Gathered)) -> Result<(), Error> {
        let mut each = || -> Result<(), Change> {
            for row in self.journal.range::<u64>(..)? {
                let (sequence, entries) = row?;
                let entries = journal::decode(entries.value());
                for gathered in entries.ok_or_else(|| Change::Value("a journal entry breaks off".into()))? {
                    f(sequence.value(), gathered);
                }
            }
            Ok(())
        };
        each().map_err(|error| error.into_error(&self.path))
    }

    /// Returns a key's all-time counts and its last verification.
    pub(super) fn total(&self, id: KeyId) -> Result<(Counts, Last), Error> {
        let read = || -> Result<StoredTotal, Change> {
            let row = self.totals.get(id.to_u128())?;
            Ok(row.map(|row| decode(row.value())).transpose()?.unwrap_or_default())
        };
        let total = read().map_err(|error| error.into_error(&self.path))?;
        Ok((Counts::from_stored(&total.counts), total.last()))
    }

    /// Returns a key's counts by hour, from `from` to before `to`.
    pub(super) fn hours(&self, id: KeyId, from: u32, to: u32) -> Result<Vec<(u32, Counts)>, Error> {
        self.range(&self.hours, id, from, to)
    }

    /// Returns a key's counts by day, from `from` to before `to`. Days only cover hours that are no longer
    /// kept separately.
    pub(super) fn days(&self, id: KeyId, from: u32, to: u32) -> Result<Vec<(u32, Counts)>, Error> {
        self.range(&self.days, id, from, to)
    }

    fn range(
        &self,
        table: &ReadOnlyTable<(u128, u32), &'static [u8]>,
        id: KeyId,
        from: u32,
        to: u32,
    ) -> Result<Vec<(u32, Counts)>, Error> {
        let key = id.to_u128();
        let read = || -> Result<Vec<(u32, Counts)>, Change> {
            let mut found = Vec::new();
            for row in table.range((key, from)..(key, to.max(from)))? {
                let (at, counts) = row?;
                found.push((at.value().1, Counts::from_stored(&decode::<StoredCounts>(counts.value())?)));
            }
            Ok(found)
        };
        read().map_err(|error| error.into_error(&self.path))
    }
}

/// A failed access to a table, or an unreadable value.
enum Change {
    Redb(redb::Error),
    Value(String),
}

impl<E: Into<redb::Error>> From<E> for Change {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

impl Change {
    fn into_error(self, path: &Path) -> Error {
        match self {
            Self::Redb(error) => Error::of(path, error),
            Self::Value(reason) => damaged(path, reason),
        }
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, Change> {
    rmp_serde::to_vec(value).map_err(|error| Change::Value(error.to_string()))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Change> {
    rmp_serde::from_slice(bytes).map_err(|error| Change::Value(error.to_string()))
}

fn unavailable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Unavailable { file: path.display().to_string(), reason: error.to_string() }
}

fn damaged(path: &Path, reason: impl Into<String>) -> Error {
    Error::Damaged { file: path.display().to_string(), reason: reason.into() }
}
