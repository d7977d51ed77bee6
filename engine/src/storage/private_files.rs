//! Keeps other users of the machine out of the files: what is created is private, and what exists is made so.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use super::data_directory::{
    CHECKPOINTS, DELIVERIES, DataDirectory, FIRST_ROOT_KEY, JOURNAL, LAST_USE, LOG, LOG_KEY, SIGNING_KEYS,
    USAGE, VAULT, WEBHOOK_KEY,
};

/// The rights of the group and of all others.
const OTHERS: u32 = 0o077;
/// Files that hold secrets, personal text or addresses, beside those of the projections.
const PRIVATE: [&str; 11] = [
    LOG,
    JOURNAL,
    VAULT,
    USAGE,
    LAST_USE,
    DELIVERIES,
    WEBHOOK_KEY,
    SIGNING_KEYS,
    LOG_KEY,
    CHECKPOINTS,
    FIRST_ROOT_KEY,
];

/// Makes every file and directory that the process creates from now on accessible to its own user only. The
/// first thing that a program does: the setting belongs to the process, not to a thread.
pub fn create_files_privately() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// What [`narrow`] found.
#[derive(Debug, Default)]
pub struct Narrowed {
    /// The permission bits of the data directory, if the group or others have any.
    pub open_directory: Option<u32>,
    /// Files that others had access to, and no longer have.
    pub narrowed: Vec<PathBuf>,
    /// Files that others still have access to, because their permissions could not be changed.
    pub still_open: Vec<(PathBuf, io::Error)>,
}

/// Takes the rights of the group and of others away from the data's files. The directory's own are left as
/// they are: they are often those of a mounted volume.
///
/// # Errors
/// When the directory cannot be read.
pub fn narrow(data: &DataDirectory) -> io::Result<Narrowed> {
    let mode = fs::metadata(data.path())?.permissions().mode() & 0o777;
    let mut found = Narrowed { open_directory: (mode & OTHERS != 0).then_some(mode), ..Narrowed::default() };
    for name in PRIVATE {
        narrow_file(data.file(name), &mut found);
    }
    for entry in fs::read_dir(data.projections())? {
        narrow_file(entry?.path(), &mut found);
    }
    Ok(found)
}

/// Leaves what is not a regular file: a link leads to a file that somebody else cares for.
fn narrow_file(path: PathBuf, found: &mut Narrowed) {
    let Some(mode) = mode_of_file(&path).filter(|mode| mode & OTHERS != 0) else { return };
    match fs::set_permissions(&path, Permissions::from_mode(mode & !OTHERS)) {
        Ok(()) => found.narrowed.push(path),
        Err(error) => found.still_open.push((path, error)),
    }
}

fn mode_of_file(path: &Path) -> Option<u32> {
    let file = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some(file.permissions().mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_lose_access_to_files_and_are_reported_at_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let data = DataDirectory::open_or_create(&path).unwrap();
        let found = narrow(&data).unwrap();
        assert!(found.open_directory.is_none() && found.narrowed.is_empty() && found.still_open.is_empty());
        let files = [data.log(), data.usage(), data.verification_snapshot(), data.log_verifier()];
        for (file, mode) in files.iter().zip([0o644, 0o640, 0o604, 0o644]) {
            fs::write(file, b"x").unwrap();
            fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let found = narrow(&data).unwrap();
        assert_eq!(found.open_directory, Some(0o755));
        assert_eq!(found.narrowed, files[..3]);
        let modes = files.each_ref().map(|file| fs::metadata(file).unwrap().permissions().mode() & 0o777);
        assert_eq!(modes, [0o600, 0o600, 0o600, 0o644], "the public key is for everybody");
    }
}
