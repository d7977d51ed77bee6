//! Where the security log is written.

use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

/// Standard error, or a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Destination {
    #[default]
    StandardError,
    File(PathBuf),
}

impl FromStr for Destination {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "stderr" { Self::StandardError } else { Self::File(text.into()) })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StandardError => f.write_str("stderr"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// An open destination.
pub(super) enum Sink {
    StandardError,
    File(PathBuf, Mutex<File>),
}

impl Sink {
    /// Opens a destination. A file is appended to; only its owner can read it.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(super) fn open(destination: &Destination) -> io::Result<Self> {
        match destination {
            Destination::StandardError => Ok(Self::StandardError),
            Destination::File(path) => Ok(Self::File(path.clone(), Mutex::new(open(path)?))),
        }
    }

    /// Opens the file again, which another program may have moved away.
    pub(super) fn reopen(&self) {
        let Self::File(path, file) = self else { return };
        match open(path) {
            Ok(opened) => *file.lock().unwrap_or_else(PoisonError::into_inner) = opened,
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "could not reopen the security log; the open file stays in use");
            }
        }
    }

    /// Writes whole lines at once. One that cannot be written is lost, as with the service's own log: a full
    /// disk must not stop the service.
    pub(super) fn write(&self, lines: &[u8]) {
        let _ = match self {
            Self::StandardError => io::stderr().lock().write_all(lines),
            Self::File(_, file) => file.lock().unwrap_or_else(PoisonError::into_inner).write_all(lines),
        };
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(path)
}
