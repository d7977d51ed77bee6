//! The vault's file, `vault.redb` (docs/format.md). No other module of the vault names redb's types.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use zeroize::Zeroizing;

use super::Error;
use super::seal::{SECRET_LEN, Secret};
use crate::kek::{self, Kek, KekId, key_file};
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

/// Version of the table layout without a key-encryption key, and with one, which wraps the secrets in it.
const FORMAT: u32 = 1;
const FORMAT_WRAPPED: u32 = 2;
/// Key id to row.
const KEYS: TableDefinition<'_, &[u8; SubjectKeyId::LEN], &[u8]> = TableDefinition::new("keys");
/// Values that exist once.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_TAG_KEY: &str = "tag_key";
/// The id of the key-encryption key, in layout [`FORMAT_WRAPPED`].
const META_KEK: &str = "kek";
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
    kek: Option<Arc<Kek>>,
}

impl Store {
    /// Opens the file, or makes it with this key for tags if it is not there. `kek` wraps the secrets in it.
    pub(super) fn open(
        path: &Path,
        new_tag_key: &[u8; SECRET_LEN],
        kek: Option<Arc<Kek>>,
    ) -> Result<(Self, Stored), Error> {
        let unfinished = atomic_file::unfinished(path);
        // What a crash left of a replacement that never took this file's place.
        atomic_file::remove(&unfinished).map_err(|error| open_error(path, error))?;
        if !path.exists() {
            write_file(&unfinished, new_tag_key, &[], kek.as_deref())
                .map_err(|error| open_error(path, error))?;
            atomic_file::rename(&unfinished, path).map_err(|error| open_error(path, error))?;
        }
        let database = open_database(path, || builder().open(path))?;
        let stored = read(path, &database, kek.as_deref())?;
        Ok((Self { path: path.to_path_buf(), database: Some(database), kek }, stored))
    }

    /// Reads a file that no process has open for writing, without ever writing to it.
    pub(super) fn read_only(path: &Path, kek: Option<&Kek>) -> Result<Stored, Error> {
        let file = File::open(path).map_err(|error| open_error(path, error))?;
        let database = open_database(path, || builder().create_with_backend(Overlay::new(file)?))?;
        read(path, &database, kek)
    }

    /// Closes the file and returns its path and its key-encryption key.
    pub(super) fn close(&mut self) -> (PathBuf, Option<Arc<Kek>>) {
        self.database = None;
        (self.path.clone(), self.kek.clone())
    }

    /// Rewrites the file with another key-encryption key, or without one.
    pub(super) fn rekey(&mut self, stored: &Stored, to: Option<Arc<Kek>>) -> Result<(), Error> {
        self.kek = to;
        self.replace(&stored.tag_key, &stored.rows)
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
                    table.insert(row.id.as_bytes(), row_bytes(row, self.kek.as_deref())?.as_slice())?;
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
        let written = write_file(&unfinished, tag_key, rows, self.kek.as_deref());
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
fn write_file(
    path: &Path,
    tag_key: &[u8; SECRET_LEN],
    rows: &[Row],
    kek: Option<&Kek>,
) -> Result<(), redb::Error> {
    let file = atomic_file::create_private(path)?;
    let synced = file.try_clone()?;
    let database = builder().create_file(file)?;
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        let format = if kek.is_some() { FORMAT_WRAPPED } else { FORMAT };
        meta.insert(META_FORMAT, format.to_be_bytes().as_slice())?;
        meta.insert(META_TAG_KEY, protected(kek, TAG_KEY_NAME, tag_key)?.as_slice())?;
        if let Some(kek) = kek {
            meta.insert(META_KEK, kek.id().0.as_slice())?;
        }
        let mut table = transaction.open_table(KEYS)?;
        for row in rows {
            table.insert(row.id.as_bytes(), row_bytes(row, kek)?.as_slice())?;
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

/// What the key for tags is called where it is wrapped.
const TAG_KEY_NAME: &[u8] = b"vault.redb tag key";

/// The name of a row's secret where it is wrapped: with the holder, so that nobody gives it to another one.
fn row_name(id: &[u8; SubjectKeyId::LEN], holder: &[u8]) -> Vec<u8> {
    [b"vault.redb key ".as_slice(), id, holder].concat()
}

/// The secret as it is stored: wrapped, if there is a key-encryption key.
fn protected(
    kek: Option<&Kek>,
    name: &[u8],
    secret: &[u8; SECRET_LEN],
) -> Result<Zeroizing<Vec<u8>>, redb::Error> {
    match kek {
        None => Ok(Zeroizing::new(secret.to_vec())),
        Some(kek) => {
            let wrapped = kek.wrap(name, secret).map_err(|error| redb::Error::Io(io::Error::other(error)))?;
            Ok(Zeroizing::new(wrapped))
        }
    }
}

/// Reads what [`protected`] made.
fn exposed(kek: Option<&Kek>, name: &[u8], stored: &[u8]) -> Option<Zeroizing<[u8; SECRET_LEN]>> {
    let unwrapped = match kek {
        None => Zeroizing::new(stored.to_vec()),
        Some(kek) => kek.unwrap(name, stored).ok()?,
    };
    unwrapped.as_slice().try_into().ok().map(Zeroizing::new)
}

/// Secret 32, or wrapped 60; 1 for a user else 0 in one byte, tag of the user 16 (zeros if none), id of the
/// organization as text.
fn row_bytes(row: &Row, kek: Option<&Kek>) -> Result<Zeroizing<Vec<u8>>, redb::Error> {
    let organization_id = row.holder.organization_id.as_ref().map_or("", OrganizationId::as_str);
    let mut holder = vec![u8::from(row.holder.user.is_some())];
    holder.extend(row.holder.user.unwrap_or_default());
    holder.extend(organization_id.as_bytes());
    let mut bytes = protected(kek, &row_name(row.id.as_bytes(), &holder), row.secret.bytes())?;
    // Growing would leave a copy of the secret behind.
    let mut whole = Zeroizing::new(Vec::with_capacity(bytes.len() + holder.len()));
    whole.append(&mut bytes);
    whole.extend(holder);
    Ok(whole)
}

fn read_row(id: [u8; SubjectKeyId::LEN], row: &[u8], kek: Option<&Kek>) -> Option<Row> {
    let secret_len = SECRET_LEN + if kek.is_some() { kek::OVERHEAD } else { 0 };
    let (secret, holder) = row.split_at_checked(secret_len)?;
    let secret = exposed(kek, &row_name(&id, holder), secret)?;
    let (is_user, rest) = holder.split_first_chunk::<1>()?;
    let (tag, organization_id) = rest.split_first_chunk::<16>()?;
    let organization_id = match std::str::from_utf8(organization_id).ok()? {
        "" => None,
        id => Some(id.parse().ok()?),
    };
    let holder = Holder { organization_id, user: (*is_user == [1]).then_some(*tag) };
    Some(Row { id: SubjectKeyId::from_bytes(id), holder, secret: Secret::new(secret) })
}

/// What the file says about itself.
struct Meta {
    format: Option<u32>,
    tag_key: Option<Zeroizing<Vec<u8>>>,
    kek: Option<KekId>,
}

fn read_meta(database: &Database) -> Result<Meta, redb::Error> {
    let meta = database.begin_read()?.open_table(META)?;
    let row = |name| Ok::<_, redb::Error>(meta.get(name)?.map(|row| Zeroizing::new(row.value().to_vec())));
    let format = row(META_FORMAT)?.and_then(|row| row.as_slice().try_into().ok()).map(u32::from_be_bytes);
    let kek = row(META_KEK)?.and_then(|row| row.as_slice().try_into().ok()).map(KekId);
    Ok(Meta { format, tag_key: row(META_TAG_KEY)?, kek })
}

/// The id of the key-encryption key that wraps the secrets in the file at `path`, if one does.
pub(super) fn kek_of(path: &Path) -> Result<Option<KekId>, Error> {
    let file = File::open(path).map_err(|error| open_error(path, error))?;
    let database = open_database(path, || builder().create_with_backend(Overlay::new(file)?))?;
    let meta = read_meta(&database).map_err(|error| open_error(path, Failure::Damaged(error.to_string())))?;
    Ok(meta.kek.filter(|_| meta.format == Some(FORMAT_WRAPPED)))
}

fn read(path: &Path, database: &Database, kek: Option<&Kek>) -> Result<Stored, Error> {
    let damaged = |reason: &dyn Display| open_error(path, Failure::Damaged(reason.to_string()));
    let refused = |error: key_file::Error| Error::Open(format!("{}: {error}", path.display()));
    let meta = read_meta(database).map_err(|error| damaged(&error))?;
    match (meta.format, meta.kek, kek) {
        (Some(format), ..) if format > FORMAT_WRAPPED => {
            let path = path.display();
            return Err(Error::Open(format!("{path}: written by a newer version; use that version")));
        }
        (Some(FORMAT), _, None) => {}
        (Some(FORMAT), _, Some(_)) => return Err(refused(key_file::Error::NotWrapped)),
        (Some(FORMAT_WRAPPED), Some(wrapped), Some(kek)) if wrapped == kek.id() => {}
        (Some(FORMAT_WRAPPED), Some(wrapped), Some(kek)) => {
            return Err(refused(key_file::Error::OtherKek { wrapped, given: kek.id() }));
        }
        (Some(FORMAT_WRAPPED), Some(wrapped), None) => return Err(refused(key_file::Error::NoKek(wrapped))),
        _ => return Err(damaged(&"it is no vault")),
    }
    let read_rows = || -> Result<Vec<Option<Row>>, redb::Error> {
        let keys = database.begin_read()?.open_table(KEYS)?;
        let rows = keys.iter()?.map(|row| {
            let (id, row) = row?;
            Ok(read_row(*id.value(), row.value(), kek))
        });
        rows.collect()
    };
    let tag_key = meta.tag_key.and_then(|key| exposed(kek, TAG_KEY_NAME, &key));
    let tag_key = tag_key.ok_or_else(|| damaged(&"it is no vault"))?;
    let rows = read_rows().map_err(|error| damaged(&error))?;
    let rows = rows.into_iter().collect::<Option<_>>();
    Ok(Stored { tag_key, rows: rows.ok_or_else(|| damaged(&"a row is none, or was altered"))? })
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
