//! Files that change durably and as a whole. A reader, a crash or a power loss sees the old file or the new
//! one.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Only the owner reads and writes the file.
const OWNER_ONLY: u32 = 0o600;

/// The directory that holds `path`: `.` for a bare file name.
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where the next version of the file at `path` is written: `log-key.new` beside `log-key`.
#[must_use]
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name: OsString = path.into();
    name.push(".new");
    name.into()
}

/// Makes the names in the directory of `path` durable. A rename, a creation or a deletion survives a power
/// loss only after this.
///
/// # Errors
/// When the directory cannot be opened or synced.
pub fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

/// Replaces the file at `path` with what `write` writes, durably. Only its owner can read the new file.
///
/// # Errors
/// When the new file cannot be written, which leaves the old one, or when its name cannot be made durable.
pub fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let unfinished = unfinished(path);
    let written = create_private(&unfinished).and_then(|mut file| {
        write(&mut file)?;
        file.sync_all()
    });
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&unfinished);
    }
    written?;
    rename(&unfinished, path)
}

/// Creates a file that only its owner can read, or empties the one that a crash left.
///
/// # Errors
/// When the file cannot be created.
pub fn create_private(path: &Path) -> io::Result<File> {
    // A file that is left over keeps the permissions that it has, so it goes first.
    remove_if_present(path)?;
    OpenOptions::new().read(true).write(true).create_new(true).mode(OWNER_ONLY).open(path)
}

/// Gives the synced file at `from` the name `to`, durably, and replaces the file that had it.
///
/// # Errors
/// When the file cannot be renamed, or the new name cannot be made durable.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_directory_of(to)
}

/// Deletes the file at `path`, durably. Returns whether there was one.
///
/// # Errors
/// When the file cannot be deleted, or its deletion cannot be made durable.
pub fn remove(path: &Path) -> io::Result<bool> {
    let removed = remove_if_present(path)?;
    if removed {
        sync_directory_of(path)?;
    }
    Ok(removed)
}

fn remove_if_present(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_bare_file_name_is_in_the_current_directory() {
        assert_eq!(directory_of(Path::new("log-key")), Path::new("."));
        assert_eq!(directory_of(Path::new("data/log-key")), Path::new("data"));
        sync_directory_of(Path::new("log-key")).unwrap();
    }

    #[test]
    fn a_replaced_file_is_private_whatever_was_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signing-keys.json");
        fs::write(&path, b"old").unwrap();
        fs::write(unfinished(&path), b"half of an earlier attempt, longer than the new contents").unwrap();
        fs::set_permissions(unfinished(&path), fs::Permissions::from_mode(0o644)).unwrap();
        replace(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, OWNER_ONLY);
        assert!(!unfinished(&path).exists());
    }

    #[test]
    fn a_failed_replacement_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log-key");
        fs::write(&path, b"old").unwrap();
        fs::create_dir(unfinished(&path)).unwrap();
        assert!(replace(&path, |file| file.write_all(b"new")).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn removing_says_whether_there_was_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("verification.snapshot");
        fs::write(&path, b"old").unwrap();
        assert!(remove(&path).unwrap());
        assert!(!remove(&path).unwrap());
    }
}
