//! The keys that sign access tokens: the current key, and previous keys, which stay published while tokens
//! that they signed can be valid. They are stored in a file of the data directory that only its owner can
//! read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use jsonwebtoken::jwk::{Jwk, JwkSet, KeyOperations, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use keyledger_engine::kek::key_file::{self, KeyFile};
use keyledger_engine::value::time::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The signature algorithm, which RFC 9068 §2.1 requires every resource server to support.
pub(crate) const ALGORITHM: Algorithm = Algorithm::RS256;
/// The current key is replaced after 90 days, in milliseconds.
const AGE_MAX_MILLIS: i64 = 90 * 24 * 60 * 60 * 1_000;
/// A replaced key stays published for the longest lifetime of an access token and an hour, in milliseconds.
const RETIRED_MILLIS: i64 = (24 + 1) * 60 * 60 * 1_000;

/// Why the keys cannot be read or written: one line that names the file and the next step.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(String);

/// The keys of one data directory. The first key is created when it is needed.
pub(crate) struct SigningKeys {
    file: KeyFile,
    keys: RwLock<Arc<KeySet>>,
}

/// The keys at one moment, the current one first.
#[derive(Default)]
pub(crate) struct KeySet(Vec<SigningKey>);

/// A key pair.
pub(crate) struct SigningKey {
    /// The RFC 7638 thumbprint.
    pub id: String,
    pub private: EncodingKey,
    pub public: DecodingKey,
    jwk: Jwk,
    created_at: Timestamp,
}

/// The file's contents: the current key first.
#[derive(Serialize, Deserialize, Default)]
struct StoredKeys {
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
struct StoredKey {
    created_at: Timestamp,
    /// When the key was replaced.
    retired_at: Option<Timestamp>,
    /// PKCS #8, PEM.
    #[serde(with = "private_text")]
    private_key: Zeroizing<String>,
}

/// Serializes a secret text. `Zeroizing` has no serialization of its own, so that no other type writes one by
/// accident.
mod private_text {
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(crate) fn serialize<S: Serializer>(
        text: &Zeroizing<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(deserializer).map(Zeroizing::new)
    }
}

impl KeySet {
    #[must_use]
    pub(crate) fn find(&self, id: &str) -> Option<&SigningKey> {
        self.0.iter().find(|key| key.id == id)
    }

    /// The current key, which signs.
    #[must_use]
    pub(crate) fn current(&self) -> Option<&SigningKey> {
        self.0.first()
    }

    /// Returns the public keys as a JWK set (RFC 7517 §5).
    #[must_use]
    pub(crate) fn jwks(&self) -> JwkSet {
        JwkSet { keys: self.0.iter().map(|key| key.jwk.clone()).collect() }
    }
}

impl SigningKeys {
    /// Reads the keys in a file. A missing file means no keys.
    ///
    /// # Errors
    /// When the file cannot be read or parsed.
    pub(crate) fn open(file: KeyFile) -> Result<Self, Error> {
        let keys = RwLock::new(Arc::new(load(&file)?));
        Ok(Self { file, keys })
    }

    /// Returns the keys in memory.
    #[must_use]
    pub(crate) fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the keys with a current one. Creates the first key, and replaces a current key that is due.
    /// May block on a disk.
    ///
    /// # Errors
    /// When there is no current key and none can be created.
    pub(crate) fn with_current(&self, now: Timestamp) -> Result<Arc<KeySet>, Error> {
        let keys = self.keys();
        if keys.current().is_some_and(|key| !key.is_due(now)) {
            return Ok(keys);
        }
        match rotate(&self.file, now, Previous::Published, |key| key.is_due(now)).and_then(|()| self.reload())
        {
            Ok(()) => Ok(self.keys()),
            // An overdue key still signs valid tokens.
            Err(error) if keys.current().is_some() => {
                tracing::warn!(%error, "could not replace the signing key");
                Ok(keys)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the file again, which another process may have changed.
    ///
    /// # Errors
    /// When the file cannot be read. The keys in memory stay.
    pub(crate) fn reload(&self) -> Result<(), Error> {
        let keys = Arc::new(load(&self.file)?);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }
}

impl SigningKey {
    fn is_due(&self, now: Timestamp) -> bool {
        now >= self.created_at.saturating_add_millis(AGE_MAX_MILLIS)
    }

    fn read(stored: &StoredKey) -> Result<Self, String> {
        let unusable = |error: jsonwebtoken::errors::Error| error.to_string();
        let private = EncodingKey::from_rsa_pem(stored.private_key.as_bytes()).map_err(unusable)?;
        let mut jwk = Jwk::from_encoding_key(&private, ALGORITHM).map_err(unusable)?;
        let id = jwk.thumbprint(ThumbprintHash::SHA256).map_err(unusable)?;
        jwk.common.key_id = Some(id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        jwk.common.key_operations = Some(vec![KeyOperations::Verify]);
        let public = DecodingKey::from_jwk(&jwk).map_err(unusable)?;
        Ok(Self { id, private, public, jwk, created_at: stored.created_at })
    }
}

/// What a rotation does with the previous keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Previous {
    /// They stay published until the tokens that they signed have expired.
    Published,
    /// They are removed, and the tokens that they signed are invalid.
    Dropped,
}

/// Creates a new current key, and removes keys whose tokens have all expired, or all previous keys. Waits for
/// another process that does the same.
///
/// # Errors
/// When the file cannot be read or written. It stays unchanged.
pub(crate) fn rotate_now(file: &KeyFile, now: Timestamp, previous: Previous) -> Result<(), Error> {
    rotate(file, now, previous, |_| true)
}

fn rotate(
    file: &KeyFile,
    now: Timestamp,
    previous: Previous,
    is_due: impl FnOnce(&SigningKey) -> bool,
) -> Result<(), Error> {
    let path = file.path();
    let failed = |error: io::Error| {
        Error(format!(
            "{}: cannot be written: {error}; check its owner, its permissions and the disk",
            path.display()
        ))
    };
    let lock = open_private(&path.with_extension("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let mut stored = read_stored(file)?;
    let current =
        stored.keys.first().map(SigningKey::read).transpose().map_err(|error| unusable(path, error))?;
    if current.is_some_and(|key| !is_due(&key)) {
        return Ok(());
    }
    if previous == Previous::Dropped {
        stored.keys.clear();
    }
    for key in &mut stored.keys {
        key.retired_at.get_or_insert(now);
    }
    stored.keys.retain(|key| key.retired_at.is_none_or(|at| now < at.saturating_add_millis(RETIRED_MILLIS)));
    let private_key =
        generate().map_err(|reason| Error(format!("could not create a signing key: {reason}")))?;
    stored.keys.insert(0, StoredKey { created_at: now, retired_at: None, private_key });
    let text =
        serde_json::to_vec_pretty(&stored).map(Zeroizing::new).map_err(|error| failed(error.into()))?;
    file.write(&text).map_err(failed)
}

fn generate() -> Result<Zeroizing<String>, String> {
    let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|error| error.to_string())?;
    let der =
        AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).map_err(|error| error.to_string())?;
    Ok(Zeroizing::new(pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref()))))
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

fn read_stored(file: &KeyFile) -> Result<StoredKeys, Error> {
    let text = match file.read() {
        Ok(text) => text,
        Err(key_file::Error::Missing) => return Ok(StoredKeys::default()),
        Err(error) => return Err(Error(format!("{}: {error}", file.path().display()))),
    };
    serde_json::from_slice(&text).map_err(|error| unusable(file.path(), error))
}

fn load(file: &KeyFile) -> Result<KeySet, Error> {
    let stored = read_stored(file)?;
    let keys = stored.keys.iter().map(SigningKey::read).collect::<Result<_, _>>();
    keys.map(KeySet).map_err(|error| unusable(file.path(), error))
}

/// The parser's reason names a place in the file, never its content.
fn unusable(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error(format!(
        "{}: contains no valid signing keys: {reason}; restore the file, or remove it to get a new key, \
         which invalidates all access tokens",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(path: &Path) -> KeyFile {
        KeyFile::new(path.to_path_buf(), "signing-keys.json", None)
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_millis(1_790_000_000_000 + hours * 60 * 60 * 1_000)
    }

    fn ids(keys: &KeySet) -> Vec<String> {
        keys.0.iter().map(|key| key.id.clone()).collect()
    }

    #[test]
    fn keys_are_created_on_demand_stored_and_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signing-keys.json");
        let keys = SigningKeys::open(file(&path)).unwrap();
        assert!(keys.keys().current().is_none() && !path.exists());

        let first = ids(&keys.with_current(at(0)).unwrap());
        assert_eq!(first.len(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ids(&keys.with_current(at(1)).unwrap()), first);
        assert_eq!(ids(&SigningKeys::open(file(&path)).unwrap().keys()), first);

        // Another process replaces the key; this one sees it after a reload.
        rotate_now(&file(&path), at(2), Previous::Published).unwrap();
        assert_eq!(ids(&keys.keys()), first);
        keys.reload().unwrap();
        let second = ids(&keys.keys());
        assert_eq!((second.len(), &second[1]), (2, &first[0]));

        // A key of 90 days is replaced; the first one has been retired for long enough to be forgotten.
        let third = ids(&keys.with_current(at(2 + 90 * 24)).unwrap());
        assert_eq!((third.len(), &third[1]), (2, &second[0]));
        assert!(keys.keys().find(&first[0]).is_none());

        // Keys that somebody else may have are not accepted any more.
        rotate_now(&file(&path), at(3 + 90 * 24), Previous::Dropped).unwrap();
        keys.reload().unwrap();
        let fourth = ids(&keys.keys());
        assert!(fourth.len() == 1 && !third.contains(&fourth[0]));
    }

    #[test]
    fn a_damaged_file_is_named_without_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signing-keys.json");
        fs::write(&path, r#"{"keys":[{"created_at":"2026-01-01T00:00:00.000Z","private_key":"sesame"}]}"#)
            .unwrap();
        let error = SigningKeys::open(file(&path)).err().unwrap().to_string();
        assert!(error.contains("signing-keys.json") && !error.contains("sesame"), "{error}");
    }

    #[test]
    fn what_is_published_is_public() {
        let directory = tempfile::tempdir().unwrap();
        let keys = SigningKeys::open(file(&directory.path().join("signing-keys.json"))).unwrap();
        let keys = keys.with_current(at(0)).unwrap();
        let published = serde_json::to_value(keys.jwks()).unwrap();
        let members: Vec<&String> = published["keys"][0].as_object().unwrap().keys().collect();
        assert_eq!(members, ["use", "key_ops", "alg", "kid", "kty", "n", "e"]);
    }
}
