//! Files of the storage engine (redb): opening them, classifying what fails, catching the engine's panics,
//! and setting a damaged file aside. Every module that names redb's types goes through here.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{DatabaseError, StorageError};

use super::storage_panic::{self, in_file};

/// Why a file cannot be opened, read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Another process has the file open.
    InUse,
    /// There is no file.
    Missing,
    /// A directory has the name.
    IsDirectory,
    /// The file's permissions or its file system forbid it.
    Denied(String),
    /// The disk is full.
    NoSpace,
    /// A newer version of the storage engine wrote the file.
    NewerFormat(u8),
    /// The file is not one of the storage engine's.
    NotADatabase,
    /// The file's contents are not what was written.
    Damaged(String),
    /// Anything else, which may pass.
    Unavailable(String),
}

/// What a file holds and how it is repaired, for messages.
#[derive(Debug, Clone, Copy)]
pub struct FileKind {
    /// `event log`, `vault`.
    pub noun: &'static str,
    /// What to do about a damaged file.
    pub repair: &'static str,
}

impl Failure {
    /// Whether the file is damaged, so that replacing it would help.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::NotADatabase | Self::Damaged(_))
    }

    /// One line that names the file, says what is wrong and what to do.
    #[must_use]
    pub fn message(&self, file: impl Display, kind: FileKind) -> String {
        let FileKind { noun, repair } = kind;
        one_line(match self {
            Self::InUse => format!("{file}: in use by another process; stop that one first"),
            Self::Missing => format!("{file}: missing; name the data directory that holds it"),
            Self::IsDirectory => format!("{file}: is a directory, not a file; name another data directory"),
            Self::Denied(reason) => format!(
                "{file}: cannot be opened ({reason}); give this user the right to read and write it and its directory"
            ),
            Self::NoSpace => format!("{file}: no space left on its disk; make some"),
            Self::NewerFormat(format) => format!(
                "{file}: redb file format {format} is not known to this version; use the version that wrote it"
            ),
            Self::NotADatabase => {
                format!("{file}: not a Keyledger {noun}; name another data directory, or {repair}")
            }
            Self::Damaged(reason) => format!("{file}: damaged: {reason}; {repair}"),
            Self::Unavailable(reason) => format!("{file}: {reason}; check the disk, then start again"),
        })
    }

    /// What is wrong, without the file's name and without advice.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::InUse => "in use by another process".into(),
            Self::Missing => "missing".into(),
            Self::IsDirectory => "a directory, not a file".into(),
            Self::NoSpace => "no space left on its disk".into(),
            Self::NewerFormat(format) => format!("redb file format {format} is not known to this version"),
            Self::NotADatabase => "not a redb file".into(),
            Self::Denied(reason) | Self::Damaged(reason) | Self::Unavailable(reason) => one_line(reason),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind;
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Denied(error.to_string()),
            ErrorKind::InvalidData => Self::NotADatabase,
            ErrorKind::NotFound => Self::Missing,
            ErrorKind::IsADirectory => Self::IsDirectory,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::NoSpace,
            ErrorKind::UnexpectedEof => Self::Damaged("it ends too early".into()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Corrupted(reason) => Self::Damaged(reason),
            StorageError::Io(error) => error.into(),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::InUse,
            DatabaseError::UpgradeRequired(format) => Self::NewerFormat(format),
            DatabaseError::Storage(error) => error.into(),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<redb::Error> for Failure {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::UpgradeRequired(format) => Self::NewerFormat(format),
            redb::Error::Io(error) => error.into(),
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => Self::Unavailable(error.to_string()),
            // What is left says that tables are missing, have other types, or are not what was written.
            error => Self::Damaged(error.to_string()),
        }
    }
}

/// Opens the file called `file` with `open`. A panic of the storage engine, which some damage causes, is a
/// failure like any other.
///
/// # Errors
/// Why the file cannot be opened.
pub fn open<D, E: Into<Failure>>(
    file: impl Display,
    open: impl FnOnce() -> Result<D, E>,
) -> Result<D, Failure> {
    let _file = in_file(&file.to_string());
    guarded(open).map_err(Failure::Damaged)?.map_err(Into::into)
}

/// Runs `work`, which may read a damaged file. The storage engine answers some damage with a panic.
///
/// # Errors
/// The panic's text, in one line.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        one_line(format!("the storage engine gave up: {}", storage_panic::panic_text(panic.as_ref())))
    })
}

/// Closes a database. What was committed is in the file before that, so nothing depends on how closing ends.
pub fn close<D>(database: D) {
    let _ = guarded(|| drop(database));
}

/// Renames a file that cannot be used, so that a new one can take its place: `usage.redb.damaged` beside
/// `usage.redb`. Returns the new name.
///
/// # Errors
/// When the file cannot be renamed.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut aside: OsString = path.into();
    aside.push(".damaged");
    fs::rename(path, &aside)?;
    Ok(aside.into())
}

/// `text` without line breaks and repeated spaces: errors are one line.
#[must_use]
pub fn one_line(text: impl Display) -> String {
    text.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use redb::Database;

    use super::*;

    const KIND: FileKind = FileKind { noun: "event log", repair: "restore it from a backup" };

    #[test]
    fn every_failure_names_the_file_and_what_to_do() {
        let failures = [
            Failure::InUse,
            Failure::Missing,
            Failure::IsDirectory,
            Failure::Denied("permission denied".into()),
            Failure::NoSpace,
            Failure::NewerFormat(9),
            Failure::NotADatabase,
            Failure::Damaged("a page\nis gone".into()),
            Failure::Unavailable("input/output error".into()),
        ];
        for failure in failures {
            let message = failure.message("data/events.redb", KIND);
            assert!(message.starts_with("data/events.redb: "), "{message}");
            assert!(message.contains("; ") && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn a_file_of_something_else_is_no_database_and_can_be_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("usage.redb");
        fs::write(&path, "text that is longer than a header, and no database at all".repeat(100)).unwrap();
        let failure = open(path.display(), || Database::open(&path)).err().unwrap();
        assert!(failure.is_damage(), "{failure:?}");
        let aside = set_aside(&path).unwrap();
        assert_eq!(aside, directory.path().join("usage.redb.damaged"));
        assert!(aside.exists() && !path.exists());
        assert_eq!(open(path.display(), || Database::open(&path)).err(), Some(Failure::Missing));
    }

    #[test]
    fn a_database_that_is_open_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault.redb");
        let _database = open(path.display(), || Database::create(&path)).unwrap();
        assert_eq!(open(path.display(), || Database::open(&path)).err(), Some(Failure::InUse));
    }

    #[test]
    fn a_panic_is_a_failure() {
        let failure = open("data/events.redb", || -> Result<(), DatabaseError> { panic!("a page is\nodd") });
        assert_eq!(failure, Err(Failure::Damaged("the storage engine gave up: a page is odd".into())));
    }
}
