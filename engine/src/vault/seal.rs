//! Sealing of personal parts with their subject's key: AES-256-GCM (NIST SP 800-38D) with a random nonce for
//! each text.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rand::Rng;
use zeroize::Zeroizing;

use crate::value::subject::SubjectKeyId;

/// Length of a key, in bytes.
pub(super) const SECRET_LEN: usize = 32;
/// Number of bytes that sealing adds to a text: key id, nonce and tag.
pub const OVERHEAD: usize = SubjectKeyId::LEN + NONCE_LEN + TAG_LEN;

const TAG_LEN: usize = 16;

/// Maximum number of keys that stay expanded after use, at less than a kilobyte each. Expanding a key takes
/// longer than opening a text with it. Further keys are expanded for each text.
const EXPANDED_MAX: usize = 16_384;
static EXPANDED: AtomicUsize = AtomicUsize::new(0);

/// Bytes of a key, wiped when the last reference is dropped.
#[derive(Clone)]
pub(super) struct Secret(Arc<SecretInner>);

struct SecretInner {
    bytes: Zeroizing<[u8; SECRET_LEN]>,
    expanded: OnceLock<Expanded>,
}

/// Key ready for use, counted in `EXPANDED`.
struct Expanded(LessSafeKey);

impl Expanded {
    fn new(key: LessSafeKey) -> Self {
        EXPANDED.fetch_add(1, Ordering::Relaxed);
        Self(key)
    }
}

impl Drop for Expanded {
    fn drop(&mut self) {
        EXPANDED.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Secret {
    pub(super) fn new(bytes: Zeroizing<[u8; SECRET_LEN]>) -> Self {
        Self(Arc::new(SecretInner { bytes, expanded: OnceLock::new() }))
    }

    pub(super) fn bytes(&self) -> &[u8; SECRET_LEN] {
        &self.0.bytes
    }

    fn with_key<T>(&self, work: impl FnOnce(&LessSafeKey) -> T) -> Result<T, SealError> {
        if let Some(Expanded(key)) = self.0.expanded.get() {
            return Ok(work(key));
        }
        let key = UnboundKey::new(&AES_256_GCM, self.0.bytes.as_slice()).map_err(|_| SealError)?;
        let key = LessSafeKey::new(key);
        if EXPANDED.load(Ordering::Relaxed) >= EXPANDED_MAX {
            return Ok(work(&key));
        }
        let expanded = Expanded::new(key);
        Ok(work(&self.0.expanded.get_or_init(move || expanded).0))
    }
}

/// The cipher failed, which only a broken build or machine causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("AES-256-GCM does not work on this machine")]
pub struct SealError;

/// The sealed text was changed, or was sealed with another key or for another place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed text does not open with its key")]
pub struct OpenError;

/// Key of a subject, with its id.
#[derive(Clone)]
pub struct SubjectKey {
    id: SubjectKeyId,
    secret: Secret,
}

impl SubjectKey {
    pub(super) const fn new(id: SubjectKeyId, secret: Secret) -> Self {
        Self { id, secret }
    }

    /// Id of the key, stored beside what it seals.
    #[must_use]
    pub const fn id(&self) -> SubjectKeyId {
        self.id
    }

    /// Appends the sealed `text` to `sealed`: key id, nonce, ciphertext and tag. It can only be opened with
    /// the same `context`.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&self, context: &[u8], text: &[u8], sealed: &mut Vec<u8>) -> Result<(), SealError> {
        let nonce = draw_nonce();
        sealed.reserve(OVERHEAD + text.len());
        sealed.extend(self.id.as_bytes());
        sealed.extend(nonce);
        let (start, nonce) = (sealed.len(), Nonce::assume_unique_for_key(nonce));
        sealed.extend(text);
        let text = sealed.get_mut(start..).unwrap_or_default();
        let sealing =
            self.secret.with_key(|key| key.seal_in_place_separate_tag(nonce, Aad::from(context), text))?;
        sealed.extend(sealing.map_err(|_| SealError)?.as_ref());
        Ok(())
    }

    /// Opens `sealed`, a sealed text without its leading key id ([`split`] separates them).
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(OpenError)?;
        let mut text = ciphertext.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self
            .secret
            .with_key(|key| key.open_in_place(nonce, Aad::from(context), &mut text).map(|text| text.len()));
        let len = opened.map_err(|_| OpenError)?.map_err(|_| OpenError)?;
        text.truncate(len);
        Ok(text)
    }
}

/// Draws a nonce for one text. The generator is cryptographic, and the operating system seeds and reseeds it;
/// asking the operating system directly takes longer than everything else done to seal a text. It would panic
/// without randomness, but then the vault could not have been opened either.
fn draw_nonce() -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    rand::rng().fill_bytes(&mut nonce);
    nonce
}

/// Splits a sealed text into the id of its key and the rest; `None` when it is too short.
#[must_use]
pub fn split(sealed: &[u8]) -> Option<(SubjectKeyId, &[u8])> {
    let (id, rest) = sealed.split_first_chunk::<{ SubjectKeyId::LEN }>()?;
    (rest.len() >= NONCE_LEN + TAG_LEN).then(|| (SubjectKeyId::from_bytes(*id), rest))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> SubjectKey {
        SubjectKey::new(SubjectKeyId::from_bytes([byte; 16]), Secret::new(Zeroizing::new([byte; SECRET_LEN])))
    }

    proptest! {
        #[test]
        fn a_sealed_text_opens_only_in_its_place(
            text in vec(any::<u8>(), 0..300),
            context in vec(any::<u8>(), 0..100),
            other in vec(any::<u8>(), 0..100),
        ) {
            let mut sealed = Vec::new();
            key(1).seal(&context, &text, &mut sealed).unwrap();
            prop_assert_eq!(sealed.len(), text.len() + OVERHEAD);
            let (id, rest) = split(&sealed).unwrap();
            prop_assert_eq!(id, key(1).id());
            prop_assert_eq!(key(1).open(&context, rest).unwrap(), text);
            prop_assert_eq!(key(2).open(&context, rest), Err(OpenError));
            if other != context {
                prop_assert_eq!(key(1).open(&other, rest), Err(OpenError));
            }
        }

        #[test]
        fn one_changed_bit_is_noticed(
            text in vec(any::<u8>(), 0..64),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let mut sealed = Vec::new();
            key(1).seal(b"place", &text, &mut sealed).unwrap();
            let (_, rest) = split(&sealed).unwrap();
            let mut changed = rest.to_vec();
            changed[at.index(rest.len())] ^= 1 << bit;
            prop_assert_eq!(key(1).open(b"place", &changed), Err(OpenError));
        }
    }

    #[test]
    fn keys_beyond_the_limit_of_expanded_ones_work() {
        let keys: Vec<_> = (0..EXPANDED_MAX + 10).map(|_| key(1)).collect();
        let mut sealed = Vec::new();
        key(1).seal(b"place", b"Ada", &mut sealed).unwrap();
        let (_, rest) = split(&sealed).unwrap();
        for key in keys.iter().chain(&keys) {
            assert_eq!(key.open(b"place", rest).unwrap(), b"Ada");
        }
        assert!(keys.last().is_some_and(|key| key.secret.0.expanded.get().is_none()));
        let expanded = EXPANDED.load(Ordering::Relaxed);
        drop(keys);
        assert!(EXPANDED.load(Ordering::Relaxed) <= expanded - EXPANDED_MAX + 10);
    }

    #[test]
    fn the_same_text_is_never_sealed_the_same_way_twice() {
        let seal = || {
            let mut sealed = Vec::new();
            key(1).seal(b"place", b"Ada Lovelace", &mut sealed).unwrap();
            sealed
        };
        let (one, two) = (seal(), seal());
        assert_ne!(one[16..28], two[16..28], "the nonce");
        assert_ne!(one[28..40], two[28..40], "the ciphertext");
        assert!(!one.windows(3).any(|bytes| bytes == b"Ada"));
    }

    #[test]
    fn a_text_that_is_too_short_is_refused() {
        assert_eq!(split(&[0; OVERHEAD - 1]), None);
        assert!(split(&[0; OVERHEAD]).is_some());
        assert_eq!(key(1).open(b"", &[0; 5]), Err(OpenError));
    }
}
