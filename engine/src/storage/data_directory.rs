//! The directory of one installation: where the log, its projections and what no log holds are on disk.

use std::io;
use std::path::{Path, PathBuf};

/// A directory that exists. The service and the replay tool find every file through it.
#[derive(Debug, Clone)]
pub struct DataDirectory(PathBuf);

/// A directory that cannot be used; one line that names it and says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

macro_rules! files {
    ($($(#[$doc:meta])* $method:ident, $constant:ident = $name:literal;)*) => {
        $($(#[$doc])* pub const $constant: &str = $name;)*

        impl DataDirectory {
            $($(#[$doc])*
            #[must_use]
            pub fn $method(&self) -> PathBuf {
                self.0.join($constant)
            })*
        }
    };
}

files! {
    /// The token of the first root key, if nobody could see it when it was created. Secret.
    first_root_key, FIRST_ROOT_KEY = "first-root-key";
    /// The event log; its journal is beside it.
    log, LOG = "events.redb";
    /// The journal of the event log.
    journal, JOURNAL = "events.journal";
    /// The vault: the keys that seal personal text.
    vault, VAULT = "vault.redb";
    /// Usage counters, which are not in the log.
    usage, USAGE = "usage.redb";
    /// When and from where callers were last used, which is not in the log.
    last_use, LAST_USE = "last-use";
    /// Pending webhook deliveries, which are not in the log.
    deliveries, DELIVERIES = "webhooks.redb";
    /// The key from which webhook secrets are derived. Secret.
    webhook_key, WEBHOOK_KEY = "webhook-key";
    /// The directory of the stored projections and the snapshot. It can be deleted while the service is
    /// stopped.
    projections, PROJECTIONS = "projections";
    /// The snapshot of the verification index.
    verification_snapshot, VERIFICATION_SNAPSHOT = "projections/verification.snapshot";
    /// The keys that sign access tokens. Secret.
    signing_keys, SIGNING_KEYS = "signing-keys.json";
    /// The issuer of the OpenID users whom the log knows.
    openid_issuer, OPENID_ISSUER = "openid-issuer";
    /// The key that signs the log's checkpoints. Secret.
    log_key, LOG_KEY = "log-key";
    /// The key that verifies the signatures of the log's checkpoints.
    log_verifier, LOG_VERIFIER = "log-key.pub";
    /// The signed checkpoints, one JSON object a line.
    checkpoints, CHECKPOINTS = "checkpoints.ndjson";
}

impl DataDirectory {
    /// Returns the directory at `path` for a service, and creates it if only the directory itself is missing.
    ///
    /// # Errors
    /// When it cannot be created, is not a directory, cannot be written to, or its log is gone.
    pub fn open_or_create(path: &Path) -> Result<Self, Error> {
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
            Err(error) => return Err(unreadable(path, &error)),
        }
        let directory = Self(path.to_path_buf());
        directory.check_writable()?;
        match create(&directory.projections()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                let path = directory.projections();
                let path = path.display();
                return Err(Error(format!("{path}: cannot be created: {error}; check the permissions")));
            }
            _ => {}
        }
        directory.check_log_is_there()?;
        Ok(directory)
    }

    /// Returns the directory at `path`, which must exist.
    ///
    /// # Errors
    /// When it does not exist, is not a directory, or cannot be read.
    pub fn existing(path: &Path) -> Result<Self, Error> {
        let shown = path.display();
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Ok(Self(path.to_path_buf())),
            Ok(_) => {
                Err(Error(format!("{shown}: not a directory; name the service's data directory with --data")))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error(format!(
                "{shown}: no such directory; name the service's data directory with --data"
            ))),
            Err(error) => Err(unreadable(path, &error)),
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file called `name` in the directory.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn check_writable(&self) -> Result<(), Error> {
        let probe = self.file(".write-probe");
        let written = std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe));
        written.map_err(|error| {
            let shown = self.0.display();
            Error(format!(
                "{shown}: cannot be written to: {error}; check its owner, its permissions and the disk"
            ))
        })
    }

    /// Checkpoints without a log mean that the log was here and is not any more. A new, empty one in its
    /// place would hide the loss.
    fn check_log_is_there(&self) -> Result<(), Error> {
        let signed = std::fs::metadata(self.checkpoints()).is_ok_and(|file| file.len() > 0);
        if !signed || self.log().exists() {
            return Ok(());
        }
        let (log, checkpoints) = (self.log(), self.checkpoints());
        Err(Error(format!(
            "{}: missing, though {} says that a log was here; put the log back, restore a backup, or start a new log in \
             another directory",
            log.display(),
            checkpoints.display()
        )))
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error(format!("{}: cannot be read: {error}; check its owner and permissions", path.display()))
}

/// Only the owner may enter the directory: the log holds names and addresses.
fn create(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(path)
}
