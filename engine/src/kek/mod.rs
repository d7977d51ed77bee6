//! The key-encryption key (KEK): one key, kept apart from the data directory, that wraps every other secret
//! key. Whoever has the disk and not this key has none of them.
//!
//! * [`Kek`]: wraps and unwraps keys: AES-256-GCM (NIST SP 800-38D) with a random nonce. What is wrapped
//!   opens only as what it was: its name is authenticated with it.
//! * [`provider`]: where the key comes from: a file, or a command that asks a key management service.
//! * [`key_file`]: a file with a secret key, wrapped or not. The vault wraps its rows by itself.

pub mod key_file;
pub mod provider;

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::mac::MacKey;

/// Length of the key, in bytes.
pub const KEK_LEN: usize = 32;
/// Bytes that wrapping adds.
pub const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

const TAG_LEN: usize = 16;
/// A random key has more distinct bytes, except once in more starts than anybody makes.
const DISTINCT_BYTES_MIN: usize = 12;

/// The key. It has no `Debug`, `Display` or `Serialize`, and is wiped when dropped.
pub struct Kek {
    key: LessSafeKey,
    id: KekId,
}

/// Tells one key-encryption key from another, and nothing about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KekId(pub [u8; 8]);

impl fmt::Display for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl FromStr for KekId {
    type Err = NotWrapped;

    fn from_str(text: &str) -> Result<Self, NotWrapped> {
        let is_plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_plain);
        number.map(|number| Self(number.to_be_bytes())).ok_or(NotWrapped)
    }
}

/// A text that is not a wrapped key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a wrapped key")]
pub struct NotWrapped;

/// A text that is not a key-encryption key. It does not contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKek {
    /// It has another form.
    #[error("not a key of 32 random bytes in base64 or hexadecimal, as `openssl rand -base64 32` makes one")]
    Form,
    /// Few of its bytes differ.
    #[error("not a random key: few of its bytes differ; make one with `openssl rand -base64 32`")]
    Weak,
}

/// The wrapped key was altered, or belongs somewhere else. It was wrapped with the right key-encryption key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the wrapped key does not open: it was altered, or belongs somewhere else")]
pub struct UnwrapError;

/// The cipher failed, which only a broken build or machine causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("AES-256-GCM does not work on this machine, or it has no randomness")]
pub struct WrapError;

impl Kek {
    /// Takes the bytes of a key.
    ///
    /// # Errors
    /// [`InvalidKek::Weak`] when they are not random.
    pub fn new(bytes: &Zeroizing<[u8; KEK_LEN]>) -> Result<Self, InvalidKek> {
        let mut seen = [false; 256];
        for byte in bytes.iter() {
            if let Some(seen) = seen.get_mut(usize::from(*byte)) {
                *seen = true;
            }
        }
        let is_random = seen.iter().filter(|seen| **seen).count() >= DISTINCT_BYTES_MIN;
        seen.zeroize();
        let key = UnboundKey::new(&AES_256_GCM, bytes.as_slice()).map_err(|_| InvalidKek::Form)?;
        let code = MacKey::derive(bytes, "keyledger key-encryption key id 1").begin().finalize();
        let mut id = [0; 8];
        id.iter_mut().zip(code).for_each(|(to, from)| *to = from);
        if is_random { Ok(Self { key: LessSafeKey::new(key), id: KekId(id) }) } else { Err(InvalidKek::Weak) }
    }

    /// Parses a key in base64 or hexadecimal. White space around it is ignored.
    ///
    /// # Errors
    /// [`InvalidKek`].
    pub fn parse(text: &[u8]) -> Result<Self, InvalidKek> {
        let text = text.trim_ascii();
        let mut bytes = Zeroizing::new([0; KEK_LEN]);
        if text.len() == 2 * KEK_LEN {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            for (byte, pair) in bytes.iter_mut().zip(text.as_chunks::<2>().0) {
                let [high, low] = pair.map(digit);
                *byte = high.zip(low).map(|(high, low)| high << 4 | low).ok_or(InvalidKek::Form)?;
            }
        } else {
            let decoded = Zeroizing::new(STANDARD.decode(text).map_err(|_| InvalidKek::Form)?);
            if decoded.len() != KEK_LEN {
                return Err(InvalidKek::Form);
            }
            bytes.copy_from_slice(&decoded);
        }
        Self::new(&bytes)
    }

    /// Tells the key from others.
    #[must_use]
    pub const fn id(&self) -> KekId {
        self.id
    }

    /// Wraps a key: nonce, ciphertext and tag. It opens only under the same `name`.
    ///
    /// # Errors
    /// [`WrapError`].
    pub fn wrap(&self, name: &[u8], key: &[u8]) -> Result<Vec<u8>, WrapError> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| WrapError)?;
        let mut wrapped = nonce.to_vec();
        let mut text = Zeroizing::new(key.to_vec());
        let tag = self.key.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(context(name)),
            &mut text,
        );
        wrapped.extend_from_slice(&text);
        wrapped.extend_from_slice(tag.map_err(|_| WrapError)?.as_ref());
        Ok(wrapped)
    }

    /// Opens what [`wrap`](Self::wrap) made.
    ///
    /// # Errors
    /// [`UnwrapError`].
    pub fn unwrap(&self, name: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnwrapError> {
        let (nonce, ciphertext) = wrapped.split_first_chunk::<NONCE_LEN>().ok_or(UnwrapError)?;
        let mut text = Zeroizing::new(ciphertext.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(context(name)), &mut text);
        let len = opened.map_err(|_| UnwrapError)?.len();
        text.truncate(len);
        Ok(text)
    }
}

fn context(name: &[u8]) -> Vec<u8> {
    [b"keyledger wrapped key 1\0", name].concat()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn kek(seed: u8) -> Kek {
        let mut bytes = Zeroizing::new([0; KEK_LEN]);
        bytes.iter_mut().zip(seed..).for_each(|(byte, number)| *byte = number);
        Kek::new(&bytes).unwrap()
    }

    proptest! {
        #[test]
        fn a_wrapped_key_opens_only_with_its_key_and_as_what_it_was(
            key in vec(any::<u8>(), 0..200),
            name in vec(any::<u8>(), 0..30),
            other in vec(any::<u8>(), 0..30),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let wrapped = kek(1).wrap(&name, &key).unwrap();
            prop_assert_eq!(wrapped.len(), key.len() + OVERHEAD);
            prop_assert_eq!(&*kek(1).unwrap(&name, &wrapped).unwrap(), &key);
            prop_assert_eq!(kek(2).unwrap(&name, &wrapped), Err(UnwrapError));
            if other != name {
                prop_assert_eq!(kek(1).unwrap(&other, &wrapped), Err(UnwrapError));
            }
            let mut changed = wrapped.clone();
            changed[at.index(wrapped.len())] ^= 1 << bit;
            prop_assert_eq!(kek(1).unwrap(&name, &changed), Err(UnwrapError));
        }
    }

    #[test]
    fn a_key_is_read_in_base64_and_in_hexadecimal() {
        let bytes: Vec<u8> = (100..132).collect();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let id = kek(100).id();
        for text in [STANDARD.encode(&bytes), format!("  {}\n", STANDARD.encode(&bytes)), hex.clone()] {
            assert_eq!(Kek::parse(text.as_bytes()).ok().unwrap().id(), id, "{text}");
        }
        assert_eq!(Kek::parse(hex.to_uppercase().as_bytes()).ok().unwrap().id(), id);
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "x", &hex[1..], &STANDARD.encode(&bytes[1..]), &format!("{hex}00"), &"g".repeat(64)]
        {
            assert_eq!(Kek::parse(text.as_bytes()).err(), Some(InvalidKek::Form), "{text}");
        }
        assert_eq!(Kek::parse("0".repeat(64).as_bytes()).err(), Some(InvalidKek::Weak));
        assert_eq!(Kek::parse(STANDARD.encode([7; 32]).as_bytes()).err(), Some(InvalidKek::Weak));
        assert_ne!(kek(1).id(), kek(2).id());
    }
}
