//! The data directory: the log, the projections built from it, and data beside the log: usage, and deliveries
//! to webhooks.

use std::io;
use std::path::{Path, PathBuf};

use keyledger_engine::transparency::{self, checkpoint_file};

/// A data directory that exists. [`DataDirectory::open`] also checks that it is writable.
#[derive(Debug, Clone)]
pub(crate) struct DataDirectory(PathBuf);

/// An unusable directory: one line that names it and the next step.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(String);

impl DataDirectory {
    /// Opens the directory at `path`. Creates it if its parent exists.
    ///
    /// # Errors
    /// When it cannot be created, is not a directory, is not writable, or its log is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let shown = path.display();
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(Error(format!("{shown}: not a directory; name another with --data"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path).map_err(|error| {
                    Error(format!(
                        "{shown}: cannot be created: {error}; create it, or name another with --data"
                    ))
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
                    "{}: cannot be created: {error}; check the permissions",
                    path.display()
                )));
            }
        }
        let signed = std::fs::metadata(directory.checkpoints()).is_ok_and(|file| file.len() > 0);
        if signed && !directory.log().exists() {
            return Err(Error(format!(
                "{}: missing, but {} says that a log was here; restore it from a backup, or start a new log \
                 in another directory",
                directory.log().display(),
                directory.checkpoints().display()
            )));
        }
        Ok(directory)
    }

    /// Returns the directory at `path`, which must exist.
    ///
    /// # Errors
    /// When it does not exist, or is not a directory.
    pub(crate) fn existing(path: &Path) -> Result<Self, Error> {
        if path.is_dir() {
            return Ok(Self(path.to_path_buf()));
        }
        Err(Error(format!("{}: no such directory; name the data directory with --data", path.display())))
    }

    #[must_use]
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join(keyledger_engine::log::redb::FILE_NAME)
    }

    /// The vault: the keys that seal personal text.
    #[must_use]
    pub(crate) fn vault(&self) -> PathBuf {
        self.0.join(keyledger_engine::vault::FILE_NAME)
    }

    #[must_use]
    pub(crate) fn usage(&self) -> PathBuf {
        self.0.join("usage.redb")
    }

    /// The file of pending messages for webhooks.
    #[must_use]
    pub(crate) fn deliveries(&self) -> PathBuf {
        self.0.join("webhooks.redb")
    }

    /// The file of the key from which webhook secrets are derived.
    #[must_use]
    pub(crate) fn webhook_key(&self) -> PathBuf {
        self.0.join(keyledger_engine::domain::webhook::KEY_FILE_NAME)
    }

    #[must_use]
    pub(crate) fn projections(&self) -> PathBuf {
        self.0.join("projections")
    }

    /// The file of the keys that sign access tokens.
    #[must_use]
    pub(crate) fn signing_keys(&self) -> PathBuf {
        self.0.join("signing-keys.json")
    }

    /// The file of the private key that signs the log's checkpoints.
    #[must_use]
    pub(crate) fn log_key(&self) -> PathBuf {
        self.0.join(transparency::KEY_FILE_NAME)
    }

    /// The file of the public key that verifies the checkpoints' signatures.
    #[must_use]
    pub(crate) fn log_verifier(&self) -> PathBuf {
        self.0.join(transparency::VERIFIER_FILE_NAME)
    }

    /// The file of signed checkpoints.
    #[must_use]
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.0.join(checkpoint_file::FILE_NAME)
    }

    #[must_use]
    pub(crate) fn verification_snapshot(&self) -> PathBuf {
        self.projections().join("verification.snapshot")
    }
}

/// Creates a directory that only its owner can enter: the log contains names and addresses.
fn create(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(path)
}
