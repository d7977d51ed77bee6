//! A file with a secret key. With a key-encryption key its content is wrapped, in one line of text:
//! `KEYLEDGER+WRAPPED+<id of the key-encryption key>+<nonce, ciphertext and tag in base64>`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{Kek, KekId};
use crate::storage::atomic_file;

/// How a wrapped key's file begins. No key in clear begins like this.
const PREFIX: &str = "KEYLEDGER+WRAPPED+";
/// Zeros to overwrite a file with, one block at a time.
static ZEROS: [u8; 4_096] = [0; 4_096];

/// Why a key cannot be read: what is wrong and what to do, without the file's name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no file.
    #[error("missing")]
    Missing,
    /// The file cannot be read.
    #[error("cannot be read: {0}; check its owner and permissions")]
    Unreadable(io::Error),
    /// The key is in clear although a key-encryption key is given. Somebody may have put it there.
    #[error(
        "not wrapped, but a key-encryption key is given; run `replay-tool rekey --new-kek-file FILE` to wrap it, or \
         start without the key-encryption key"
    )]
    NotWrapped,
    /// The key is wrapped, and no key-encryption key is given.
    #[error("wrapped with the key-encryption key {0}; give it with --kek-file or --kek-command")]
    NoKek(KekId),
    /// The key is wrapped with another key-encryption key.
    #[error(
        "wrapped with the key-encryption key {wrapped}, not with the given one, {given}; give the right one, or finish an \
         interrupted `replay-tool rekey`"
    )]
    OtherKek {
        /// What it is wrapped with.
        wrapped: KekId,
        /// What was given.
        given: KekId,
    },
    /// The wrapped key does not open.
    #[error(
        "the wrapped key does not open: it was altered, or belongs somewhere else; restore a copy of the file"
    )]
    Altered,
}

/// A file with a secret key.
#[derive(Clone)]
pub struct KeyFile {
    path: PathBuf,
    /// What the key is: the file's name in a data directory.
    name: &'static str,
    kek: Option<Arc<Kek>>,
    accepts_clear: bool,
}

impl KeyFile {
    /// The file at `path` with the key called `name`, wrapped with `kek` if that is given.
    #[must_use]
    pub const fn new(path: PathBuf, name: &'static str, kek: Option<Arc<Kek>>) -> Self {
        Self { path, name, kek, accepts_clear: false }
    }

    /// Accepts a key in clear as well, from a file that the operator named and keeps elsewhere.
    #[must_use]
    pub fn or_in_clear(mut self) -> Self {
        self.accepts_clear = true;
        self
    }

    /// The file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the key.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let bytes = fs::read(&self.path).map(Zeroizing::new).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::Missing,
            _ => Error::Unreadable(error),
        })?;
        let wrapped = parse(&bytes)?;
        match (wrapped, &self.kek) {
            (None, Some(_)) if !self.accepts_clear => Err(Error::NotWrapped),
            (None, _) => Ok(bytes),
            (Some((id, _)), None) => Err(Error::NoKek(id)),
            (Some((id, wrapped)), Some(kek)) => {
                if id != kek.id() {
                    return Err(Error::OtherKek { wrapped: id, given: kek.id() });
                }
                kek.unwrap(self.name.as_bytes(), &wrapped).map_err(|_| Error::Altered)
            }
        }
    }

    /// Writes the key durably, readable by its owner only. The bytes of an earlier file are overwritten.
    ///
    /// # Errors
    /// When the file cannot be written, which leaves the earlier one.
    pub fn write(&self, key: &[u8]) -> io::Result<()> {
        let before = match OpenOptions::new().write(true).open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            opened => Some(opened?),
        };
        let content = match &self.kek {
            None => Zeroizing::new(key.to_vec()),
            Some(kek) => {
                let wrapped = kek.wrap(self.name.as_bytes(), key).map_err(io::Error::other)?;
                Zeroizing::new(format!("{PREFIX}{}+{}\n", kek.id(), STANDARD.encode(wrapped)).into_bytes())
            }
        };
        atomic_file::replace(&self.path, |file| file.write_all(&content))?;
        before.map_or(Ok(()), overwrite)
    }

    /// Wraps the key in the file with `to`, or puts it there in clear. Returns whether the file changed; one
    /// that is already as it should be does not, so an interrupted change of all files can be repeated.
    ///
    /// # Errors
    /// The reason, with the file's name.
    pub fn rekey(&self, to: Option<Arc<Kek>>) -> Result<bool, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", self.path.display());
        let after = Self { kek: to, accepts_clear: false, ..self.clone() };
        match after.read() {
            Ok(_) | Err(Error::Missing) => return Ok(false),
            Err(_) => {}
        }
        let key = self.read().map_err(|error| failed(&error))?;
        after.write(&key).map_err(|error| failed(&format!("cannot be written: {error}; check the disk")))?;
        Ok(true)
    }
}

/// The id of the key-encryption key and the wrapped key in a file; `None` for a key in clear.
fn parse(bytes: &[u8]) -> Result<Option<(KekId, Vec<u8>)>, Error> {
    let Some(rest) = bytes.strip_prefix(PREFIX.as_bytes()) else { return Ok(None) };
    let parts = std::str::from_utf8(rest).ok().and_then(|rest| rest.trim_end().split_once('+'));
    let (id, wrapped) = parts.ok_or(Error::Altered)?;
    let id = id.parse().map_err(|_| Error::Altered)?;
    Ok(Some((id, STANDARD.decode(wrapped).map_err(|_| Error::Altered)?)))
}

/// Overwrites a file that has no name any more with zeros.
fn overwrite(mut file: File) -> io::Result<()> {
    let mut left = file.metadata()?.len();
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(ZEROS.len()).min(ZEROS.len());
        file.write_all(ZEROS.get(..len).unwrap_or(&ZEROS))?;
        left -= len as u64;
    }
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kek(seed: u8) -> Option<Arc<Kek>> {
        let text: String = (seed..seed + 32).map(|byte| format!("{byte:02x}")).collect();
        Some(Arc::new(Kek::parse(text.as_bytes()).unwrap()))
    }

    #[test]
    fn a_key_is_read_with_the_key_encryption_key_that_it_is_wrapped_with() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log-key");
        let file = |kek| KeyFile::new(path.clone(), "log-key", kek);
        assert!(matches!(file(None).read(), Err(Error::Missing)));
        file(None).write(b"secret key").unwrap();
        assert_eq!(**file(None).read().unwrap(), *b"secret key");
        assert_eq!(fs::read(&path).unwrap(), b"secret key", "unchanged without a key-encryption key");
        assert!(matches!(file(kek(1)).read(), Err(Error::NotWrapped)));
        assert_eq!(**file(kek(1)).or_in_clear().read().unwrap(), *b"secret key");

        file(kek(1)).write(b"secret key").unwrap();
        let stored = fs::read_to_string(&path).unwrap();
        assert!(stored.starts_with("KEYLEDGER+WRAPPED+") && !stored.contains("secret"), "{stored}");
        for file in [file(kek(1)), file(kek(1)).or_in_clear()] {
            assert_eq!(**file.read().unwrap(), *b"secret key");
        }
        assert!(matches!(file(None).read(), Err(Error::NoKek(id)) if id == kek(1).unwrap().id()));
        assert!(matches!(file(kek(2)).read(), Err(Error::OtherKek { .. })));
        // Another file's key in its place.
        let other = KeyFile::new(path.clone(), "webhook-key", kek(1));
        assert!(matches!(other.read(), Err(Error::Altered)));
        for at in PREFIX.len()..stored.len() - 1 {
            let mut changed = stored.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            fs::write(&path, changed).unwrap();
            assert!(file(kek(1)).read().is_err(), "{at}");
        }
    }

    #[test]
    fn a_change_of_the_key_encryption_key_can_be_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log-key");
        let file = |kek| KeyFile::new(path.clone(), "log-key", kek);
        assert_eq!(file(None).rekey(kek(1)), Ok(false), "there is no file");
        file(None).write(b"secret key").unwrap();
        for (from, to) in [(None, kek(1)), (kek(1), kek(2)), (kek(2), None)] {
            assert_eq!(file(from.clone()).rekey(to.clone()), Ok(true));
            assert_eq!(file(from).rekey(to.clone()), Ok(false), "it is done already");
            assert_eq!(**file(to).read().unwrap(), *b"secret key");
        }
        file(kek(1)).write(b"secret key").unwrap();
        let error = file(kek(2)).rekey(kek(3)).unwrap_err();
        assert!(error.contains("log-key: wrapped with the key-encryption key"), "{error}");
    }
}
