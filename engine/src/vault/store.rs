//! The vault's file, `vault.redb` (docs/format.md). No other module of the vault names redb's types.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use zeroize::{Zeroize, Zeroizing};

use super::Error;
use super::seal::{SECRET_LEN, Secret};
use crate::storage::atomic_file;
use crate::storage::overlay::Overlay;
use crate::storage::redb_file::{self, Failure, FileKind, one_line};
use crate::storage::storage_panic::in_file;
use crate::value::id::OrganizationId;
use crate::value::subject::SubjectKeyId;

/// The vault's file, for messages.
const FILE_KIND: FileKind = FileKind {
    noun: "vault",
    repair: "put a copy of it back, or move it away: what it sealed reads as erased then",
};

/// Version of the table layout.
const FORMAT: u32 = 1;
/// Key id to row.
const KEYS: TableDefinition<'_, &[u8; SubjectKeyId::LEN], &[u8]> = TableDefinition::new("keys");
/// Values that exist once.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_TAG_KEY: &str = "tag_key";
/// Cache size, in bytes. Small, because the file is read only once, when it is opened.
const CACHE_LEN: usize = 1024 * 1024;
/// Zeros to overwrite a file with, one block at a time.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Pseudonym of a user: HMAC-SHA-256 of the user id with the vault's tag key, truncated to 16 bytes.
pub(super) type UserTag = [u8; 16];

/// Subject of a key, as its row names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Holder {
    pub(super) organization_id: Option<OrganizationId>,
    pub(super) user: Option<UserTag>,
}

/// A key, with its holder.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) id: SubjectKeyId,
    pub(super) holder: Holder,
    pub(super) secret: Secret,
}

/// The file's contents.
pub(super) struct Stored {
    pub(super) tag_key: Zeroizing<[u8; SECRET_LEN]>,
    pub(super) rows: Vec<Row>,
}

/// The file, open for writing.
pub(super) struct Store {
    path: PathBuf,
    /// `None` only while the file is being replaced.
    database: Option<Database>,
}

impl Store {
    /// Opens the file, or makes it with this key for tags if it is not there.
    pub(super) fn open(path: &Path, new_tag_key: &[u8; SECRET_LEN]) -> Result<(Self, Stored), Error> {
        let unfinished = atomic_file::unfinished(path);
        // What a crash left of a replacement that never took this file's place.
        atomic_file::remove(&unfinished).map_err(|error| open_error(path, error))?;
        if !path.exists() {
            write_file(&unfinished, new_tag_key, &[]).map_err(|error| open_error(path, error))?;
            atomic_file::rename(&unfinished, path).map_err(|error| open_error(path, error))?;
        }
        let database = open_database(path, || builder().open(path))?;
        let stored = read(path, &database)?;
        Ok((Self { path: path.to_path_buf(), database: Some(database) }, stored))
    }

    /// Reads a file that no process has open for writing, without ever writing to it.
    pub(super) fn read_only(path: &Path) -> Result<Stored, Error> {
        let file = File::open(path).map_err(|error| open_error(path, error))?;
        let database = open_database(path, || builder().create_with_backend(Overlay::new(file)?))?;
        read(path, &database)
    }

    /// Closes the file and returns its path.
    pub(super) fn close(&mut self) -> PathBuf {
        self.database = None;
        self.path.clone()
    }

    /// Adds keys. They are durable on return.
    pub(super) fn add(&self, rows: &[Row]) -> Result<(), Error> {
        let _file = in_file(&self.path.display().to_string());
        let add = || -> Result<(), redb::Error> {
            let database = self.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
            let mut transaction = database.begin_write()?;
            transaction.set_two_phase_commit(true);
            transaction.set_quick_repair(true);
            {
                let mut table = transaction.open_table(KEYS)?;
                for row in rows {
                    table.insert(row.id.as_bytes(), row_bytes(row).as_slice())?;
                }
            }
            transaction.commit()?;
            Ok(())
        };
        add().map_err(|error| unavailable(&self.path, error))
    }

    /// Replaces the current file by one with only these keys, and overwrites the old bytes: a row that is
    /// removed from a table stays in the file's free pages.
    pub(super) fn replace(&mut self, tag_key: &[u8; SECRET_LEN], rows: &[Row]) -> Result<(), Error> {
        let unfinished = atomic_file::unfinished(&self.path);
        let written = write_file(&unfinished, tag_key, rows);
        if let Err(error) = written {
            // Report the original error; a failed cleanup must not mask it.
            let _ = fs::remove_file(&unfinished);
            return Err(unavailable(&self.path, error));
        }
        let failed = |error: io::Error| unavailable(&self.path, error);
        let old = OpenOptions::new().write(true).open(&self.path).map_err(failed)?;
        self.database = None;
        atomic_file::rename(&unfinished, &self.path).map_err(failed)?;
        overwrite(old).map_err(failed)?;
        self.database = Some(open_database(&self.path, || builder().open(&self.path))?);
        Ok(())
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_LEN);
    builder
}

/// Writes a whole file, readable by its owner alone.
fn write_file(path: &Path, tag_key: &[u8; SECRET_LEN], rows: &[Row]) -> Result<(), redb::Error> {
    let file = atomic_file::create_private(path)?;
    let synced = file.try_clone()?;
    let database = builder().create_file(file)?;
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT.to_be_bytes().as_slice())?;
        meta.insert(META_TAG_KEY, tag_key.as_slice())?;
        let mut table = transaction.open_table(KEYS)?;
        for row in rows {
            table.insert(row.id.as_bytes(), row_bytes(row).as_slice())?;
        }
    }
    transaction.commit()?;
    drop(database);
    synced.sync_all()?;
    Ok(())
}

/// Overwrites a file that no longer has a name with zeros.
fn overwrite(mut file: File) -> io::Result<()> {
    let mut left = file.metadata()?.len();
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(ZEROS.len()).min(ZEROS.len());
        file.write_all(ZEROS.get(..len).unwrap_or(&ZEROS))?;
        left -= len as u64;
    }
    file.sync_data()
}

/// Secret 32, 1 for a user else 0 in one byte, tag of the user 16 (zeros if none), id of the organization as
/// text.
fn row_bytes(row: &Row) -> Zeroizing<Vec<u8>> {
    let organization_id = row.holder.organization_id.as_ref().map_or("", OrganizationId::as_str);
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_LEN + 17 + organization_id.len()));
    bytes.extend(row.secret.bytes());
    bytes.push(u8::from(row.holder.user.is_some()));
    bytes.extend(row.holder.user.unwrap_or_default());
    bytes.extend(organization_id.as_bytes());
    bytes
}

fn read_row(id: [u8; SubjectKeyId::LEN], row: &[u8]) -> Option<Row> {
    let (secret, rest) = row.split_first_chunk::<SECRET_LEN>()?;
    let (is_user, rest) = rest.split_first_chunk::<1>()?;
    let (tag, organization_id) = rest.split_first_chunk::<16>()?;
    let organization_id = match std::str::from_utf8(organization_id).ok()? {
        "" => None,
        id => Some(id.parse().ok()?),
    };
    let holder = Holder { organization_id, user: (*is_user == [1]).then_some(*tag) };
    let id = SubjectKeyId::from_bytes(id);
    Some(Row { id, holder, secret: Secret::new(Zeroizing::new(*secret)) })
}

fn read(path: &Path, database: &Database) -> Result<Stored, Error> {
    let damaged = |reason: &dyn Display| open_error(path, Failure::Damaged(reason.to_string()));
    let read = || -> Result<_, redb::Error> {
        let transaction = database.begin_read()?;
        let meta = transaction.open_table(META)?;
        let format = meta.get(META_FORMAT)?.map(|row| row.value().to_vec());
        let tag_key = meta.get(META_TAG_KEY)?.map(|row| row.value().to_vec());
        let keys = transaction.open_table(KEYS)?;
        let mut rows: Vec<Option<Row>> = Vec::new();
        for row in keys.iter()? {
            let (id, row) = row?;
            rows.push(read_row(*id.value(), row.value()));
        }
        Ok((format, tag_key, rows))
    };
    let (format, mut tag_key, rows) = read().map_err(|error| damaged(&error))?;
    let format = format.and_then(|row| row.try_into().ok()).map(u32::from_be_bytes);
    if format.is_some_and(|format| format > FORMAT) {
        let path = path.display();
        return Err(Error::Open(format!("{path}: written by a newer version; use that version")));
    }
    let known = tag_key.as_deref().and_then(|key| <[u8; SECRET_LEN]>::try_from(key).ok());
    tag_key.zeroize();
    let tag_key = known.filter(|_| format == Some(FORMAT)).ok_or_else(|| damaged(&"it is no vault"))?;
    let rows = rows.into_iter().collect::<Option<_>>().ok_or_else(|| damaged(&"a row is none"))?;
    Ok(Stored { tag_key: Zeroizing::new(tag_key), rows })
}

fn open_database<D>(path: &Path, open: impl FnOnce() -> Result<D, DatabaseError>) -> Result<D, Error> {
    redb_file::open(path.display(), open).map_err(|failure| open_error(path, failure))
}

fn open_error(path: &Path, failure: impl Into<Failure>) -> Error {
    Error::Open(failure.into().message(path.display(), FILE_KIND))
}

fn unavailable(path: &Path, error: impl Display) -> Error {
    Error::Unavailable(one_line(format!("{}: {error}", path.display())))
}
