//! The secrets that sign messages. None is stored: each is derived from the key in the data directory, the
//! webhook's id and the secret's generation. The log contains the last two, so it reveals no secret.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyledger_engine::kek::key_file::{self, KeyFile};
use keyledger_engine::value::id::WebhookId;
use rand::TryRng;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

const KEY_LEN: usize = 32;
/// Separates webhook secrets from other values that may be derived from the key in future.
const PURPOSE: &[u8] = b"keyledger webhook secret 1";

/// Why the key cannot be read or created: one line that names the file and the next step.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(String);

/// The key from which all webhook secrets are derived.
pub(crate) struct SecretKey(Zeroizing<[u8; KEY_LEN]>);

/// One generation of a webhook's secret.
pub(crate) struct Secret(Zeroizing<[u8; KEY_LEN]>);

impl SecretKey {
    /// Reads the key from a file, or creates the file. Returns whether it was created.
    ///
    /// # Errors
    /// When the file cannot be read or created, or does not contain a key.
    pub(crate) fn open(file: &KeyFile) -> Result<(Self, bool), Error> {
        let shown = file.path().display();
        match file.read() {
            Ok(text) => {
                let bytes = STANDARD.decode(text.trim_ascii()).map(Zeroizing::new).ok();
                let key = bytes.and_then(|bytes| <[u8; KEY_LEN]>::try_from(bytes.as_slice()).ok());
                let key = key.ok_or_else(|| {
                    Error(format!(
                        "{shown}: does not contain a key; restore the file that the first start created"
                    ))
                })?;
                Ok((Self(Zeroizing::new(key)), false))
            }
            Err(key_file::Error::Missing) => {
                let mut key = Zeroizing::new([0; KEY_LEN]);
                SysRng.try_fill_bytes(key.as_mut_slice()).map_err(|error| {
                    Error(format!("the operating system returned no random bytes: {error}"))
                })?;
                let mut text = Zeroizing::new(STANDARD.encode(&key));
                text.push('\n');
                file.write(text.as_bytes()).map_err(|error| {
                    Error(format!("{shown}: cannot be written: {error}; check its directory and the disk"))
                })?;
                Ok((Self(key), true))
            }
            Err(error) => Err(Error(format!("{shown}: {error}"))),
        }
    }

    /// Derives one generation of a webhook's secret.
    #[must_use]
    pub(crate) fn secret(&self, id: WebhookId, generation: u32) -> Secret {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.0.as_slice()));
        context.update(PURPOSE);
        context.update(&id.to_u128().to_be_bytes());
        context.update(&generation.to_be_bytes());
        let mut secret = Zeroizing::new([0; KEY_LEN]);
        for (byte, made) in secret.iter_mut().zip(context.sign().as_ref()) {
            *byte = *made;
        }
        Secret(secret)
    }
}

impl Secret {
    /// Returns the secret in the form for receivers: `whsec_` and base64.
    #[must_use]
    pub(crate) fn expose(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(STANDARD.encode(self.0.as_slice()));
        Zeroizing::new(format!("whsec_{}", encoded.as_str()))
    }

    /// Returns a version 1 signature: HMAC-SHA256 over id, timestamp (seconds) and body, joined by full
    /// stops.
    #[must_use]
    pub(crate) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.0.as_slice()));
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign().as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_created_once_and_for_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("webhook-key");
        let file = KeyFile::new(path.clone(), "webhook-key", None);
        let id = WebhookId::from_u128(1);
        let (key, made) = SecretKey::open(&file).unwrap();
        assert!(made);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (again, made) = SecretKey::open(&file).unwrap();
        assert!(!made);
        assert_eq!(*key.secret(id, 1).expose(), *again.secret(id, 1).expose());
        assert_ne!(*key.secret(id, 1).expose(), *key.secret(id, 2).expose());
        assert_ne!(*key.secret(id, 1).expose(), *key.secret(WebhookId::from_u128(2), 1).expose());
        for bad in ["", "AAAA", "no base64"] {
            fs::write(&path, bad).unwrap();
            assert!(SecretKey::open(&file).is_err(), "{bad}");
        }
    }

    /// The example is from the specification's reference implementations.
    #[test]
    fn a_signature_equals_the_specifications_example() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let signed = hmac::sign(&key, br#"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}"#);
        assert_eq!(STANDARD.encode(signed.as_ref()), "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let secret = Secret(Zeroizing::new([7; KEY_LEN]));
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; KEY_LEN]);
        let signed = STANDARD.encode(hmac::sign(&key, b"evt_1.5.{}").as_ref());
        assert_eq!(secret.sign("evt_1", 5, b"{}"), format!("v1,{signed}"));
        assert_eq!(secret.expose().len(), "whsec_".len() + 44);
    }
}
