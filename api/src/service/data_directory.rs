//! The directory that holds everything: the log, the projections made from it, and what no log holds: usage, and what was
//! delivered to webhooks.

use std::io;
use std::path::{Path, PathBuf};

use keyledger_engine::transparency::{self, checkpoint_file};

/// A directory that exists and can be written to.
#[derive(Debug, Clone)]
pub(crate) struct DataDirectory(PathBuf);

/// A directory that cannot be used; one line that names it and says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(String);

impl DataDirectory {
    /// Takes the directory at `path`, and makes it if only it itself is missing.
    ///
    /// # Errors
    /// When it cannot be made, is no directory, cannot be written to, or its log has gone.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let shown = path.display();
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(Error(format!("{shown}: not a directory; name another with --data"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path).map_err(|error| {
                    Error(format!("{shown}: cannot be made: {error}; make it, or name another with --data"))
                })?;
            }
            Err(error) => {
                return Err(Error(format!(
                    "{shown}: cannot be read: {error}; check its owner and permissions"
                )));
            }
        }
        let directory = Self(path.to_path_buf());
        let probe = path.join(".write-probe");
        let written = std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe));
        written.map_err(|error| {
            Error(format!(
                "{shown}: cannot be written to: {error}; check its owner, its permissions and the disk"
            ))
        })?;
        match create(&directory.projections()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                let path = directory.projections();
                return Err(Error(format!(
                    "{}: cannot be made: {error}; check the permissions",
                    path.display()
                )));
            }
        }
        let signed = std::fs::metadata(directory.checkpoints()).is_ok_and(|file| file.len() > 0);
        if signed && !directory.log().exists() {
            return Err(Error(format!(
                "{}: missing, though {} says that a log was here; bring it back from where it is or from a backup, or \
                 begin a new one in another directory",
                directory.log().display(),
                directory.checkpoints().display()
            )));
        }
        Ok(directory)
    }

    /// Takes the directory at `path`, which must be there.
    ///
    /// # Errors
    /// When it is not, or is no directory.
    pub(crate) fn existing(path: &Path) -> Result<Self, Error> {
        if path.is_dir() {
            return Ok(Self(path.to_path_buf()));
        }
        Err(Error(format!("{}: no such directory; name the data directory with --data", path.display())))
    }

    /// The file of the log.
    #[must_use]
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join(keyledger_engine::log::redb::FILE_NAME)
    }

    /// The file of the keys that seal personal text.
    #[must_use]
    pub(crate) fn vault(&self) -> PathBuf {
        self.0.join(keyledger_engine::vault::FILE_NAME)
    }

    /// The file of usage.
    #[must_use]
    pub(crate) fn usage(&self) -> PathBuf {
        self.0.join("usage.redb")
    }

    /// The file of what webhooks are still to be told of.
    #[must_use]
    pub(crate) fn deliveries(&self) -> PathBuf {
        self.0.join("webhooks.redb")
    }

    /// The file of the key that webhooks' secrets are made from.
    #[must_use]
    pub(crate) fn webhook_key(&self) -> PathBuf {
        self.0.join(keyledger_engine::domain::webhook::KEY_FILE_NAME)
    }

    /// The directory of the projections' files.
    #[must_use]
    pub(crate) fn projections(&self) -> PathBuf {
        self.0.join("projections")
    }

    /// The file of the keys that sign access tokens.
    #[must_use]
    pub(crate) fn signing_keys(&self) -> PathBuf {
        self.0.join("signing-keys.json")
    }

    /// The file of the key that signs the log's checkpoints.
    #[must_use]
    pub(crate) fn log_key(&self) -> PathBuf {
        self.0.join(transparency::KEY_FILE_NAME)
    }

    /// The file of the key that checks the checkpoints' signatures.
    #[must_use]
    pub(crate) fn log_verifier(&self) -> PathBuf {
        self.0.join(transparency::VERIFIER_FILE_NAME)
    }

    /// The file of the checkpoints that were signed.
    #[must_use]
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.0.join(checkpoint_file::FILE_NAME)
    }

    /// The file of the verification index's snapshot.
    #[must_use]
    pub(crate) fn verification_snapshot(&self) -> PathBuf {
        self.projections().join("verification.snapshot")
    }
}

/// Only its owner may look into it: the log holds names and addresses.
fn create(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(path)
}
