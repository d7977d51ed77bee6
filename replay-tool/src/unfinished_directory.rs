//! A data directory under construction, beside its final path.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use keyledger_engine::storage::atomic_file;

use crate::output::report::Failure;

/// A directory that gets its final name only when it is complete. Deleted when dropped before that.
pub(crate) struct UnfinishedDirectory {
    data: PathBuf,
    path: PathBuf,
}

impl UnfinishedDirectory {
    /// Creates a directory beside `data`, which must be missing or empty.
    pub(crate) fn beside(data: &Path) -> Result<Self, Failure> {
        let shown = data.display();
        let refused = |what: &str| Failure::could_not_run(format!("{shown}: {what}"));
        match fs::read_dir(data).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => {
                return Err(refused("not empty; name a directory that is missing or empty with --data"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(refused(&format!("cannot be used: {error}; name another with --data"))),
        }
        // Resolved, because `.` and symbolic links have no sibling by that name.
        let data = fs::canonicalize(data).or_else(|_| std::path::absolute(data));
        let data =
            data.map_err(|error| refused(&format!("cannot be used: {error}; name another with --data")))?;
        let parent = data.parent().map(Path::to_path_buf);
        let parent = parent.ok_or_else(|| refused("cannot be restored to; name another with --data"))?;
        let around = tempfile::Builder::new().prefix(".keyledger-restore-").tempdir_in(&parent);
        let around = around.map_err(|error| {
            refused(&format!(
                "cannot create a directory beside it: {error}; create its parent directory or check its permissions"
            ))
        })?;
        // The inner directory gets the name, because it is created with a data directory's permissions.
        let path = around.keep().join("data");
        let directory = Self { data, path };
        let created = DirBuilder::new().mode(0o700).create(&directory.path);
        created.map_err(|error| directory.unwritable(&error))?;
        Ok(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn unwritable(&self, error: &dyn std::fmt::Display) -> Failure {
        let path = self.path.display();
        Failure::could_not_run(format!(
            "{path}: cannot be written: {error}; nothing was restored, check the disk"
        ))
    }

    /// Creates a file that only its owner can read.
    pub(crate) fn create(&self, path: &Path) -> Result<File, Failure> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        file.map_err(|error| self.unwritable(&error))
    }

    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        let mut file = self.create(path)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| self.unwritable(&error))
    }

    /// Gives the directory its final name, durably.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let synced = File::open(&self.path).and_then(|directory| directory.sync_all());
        synced.map_err(|error| self.unwritable(&error))?;
        // The rename replaces an empty directory of that name.
        atomic_file::rename(&self.path, &self.data).map_err(|error| {
            let data = self.data.display();
            Failure::could_not_run(format!(
                "{data}: the restored directory cannot get this name: {error}; name a directory that is missing or empty \
                 and not a mount point"
            ))
        })
    }
}

impl Drop for UnfinishedDirectory {
    fn drop(&mut self) {
        // Failing to delete it is not worth reporting: the command has its own outcome by then.
        if let Some(around) = self.path.parent() {
            let _ = fs::remove_dir_all(around);
        }
    }
}
