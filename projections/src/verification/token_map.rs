//! Tokens by digest: accepted ones and retired ones.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use keyledger_engine::value::id::KeyId;
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::Digest;
use papaya::{Guard, HashMap};

use super::verified_key::VerifiedKey;

/// The first `N` bytes of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DigestKey<const N: usize>([u8; N]);

impl<const N: usize> DigestKey<N> {
    pub(super) fn new(digest: &Digest) -> Self {
        const { assert!(8 <= N && N <= 32) };
        let mut bytes = [0; N];
        for (to, from) in bytes.iter_mut().zip(digest.as_bytes()) {
            *to = *from;
        }
        Self(bytes)
    }

    pub(super) const fn from_bytes(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }
}

/// Digests are uniformly distributed, so their first bytes already are a hash.
impl<const N: usize> Hash for DigestKey<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)));
    }
}

/// Uses the number that it is given as the hash.
#[derive(Default, Clone, Copy)]
pub(super) struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub(super) type DigestMap<const N: usize, V> = HashMap<DigestKey<N>, V, BuildHasherDefault<IdentityHasher>>;

/// The key behind a token.
#[derive(Debug)]
pub(super) enum Token {
    /// The key's current token.
    Current(VerifiedKey),
    /// A token replaced by rotation. These are few, so boxing them keeps the common case small.
    Previous(Box<ReplacedToken>),
}

/// A token replaced by rotation and still accepted until `valid_until`.
#[derive(Debug)]
pub(super) struct ReplacedToken {
    pub(super) valid_until: Timestamp,
    pub(super) key: VerifiedKey,
}

impl Token {
    /// Returns the key if the token is accepted at `now`.
    pub(super) fn accepted_at(&self, now: Timestamp) -> Option<&VerifiedKey> {
        match self {
            Self::Current(key) => Some(key),
            Self::Previous(token) => (now < token.valid_until).then_some(&token.key),
        }
    }

    pub(super) const fn key(&self) -> &VerifiedKey {
        match self {
            Self::Current(key) => key,
            Self::Previous(token) => &token.key,
        }
    }
}

// Together with the digest, this is half of a key's cost in the map.
const _: () = assert!(size_of::<Token>() == 64);

/// All tokens ever issued.
pub(super) struct TokenMap {
    live: DigestMap<32, Token>,
    /// Tokens that are never accepted again, kept for `find`. Half a digest identifies them: finding two
    /// tokens that agree in 128 bits is infeasible.
    retired: DigestMap<16, KeyId>,
}

impl TokenMap {
    pub(super) fn new() -> Self {
        Self::with_capacity(0, 0)
    }

    pub(super) fn with_capacity(live: usize, retired: usize) -> Self {
        Self {
            live: HashMap::with_capacity_and_hasher(live, BuildHasherDefault::default()),
            retired: HashMap::with_capacity_and_hasher(retired, BuildHasherDefault::default()),
        }
    }

    pub(super) fn guard(&self) -> impl Guard + '_ {
        self.live.guard()
    }

    pub(super) fn get<'g>(&self, digest: &Digest, guard: &'g impl Guard) -> Option<&'g Token> {
        self.live.get(&DigestKey::new(digest), guard)
    }

    /// Returns the key that has, or once had, this token.
    pub(super) fn find(&self, digest: &Digest) -> Option<KeyId> {
        // A token is inserted into `retired` before it leaves `live`, so this order cannot miss it.
        let live = self.live.pin().get(&DigestKey::new(digest)).map(|token| token.key().key_id());
        live.or_else(|| self.retired.pin().get(&DigestKey::new(digest)).copied())
    }

    pub(super) fn insert(&self, digest: &Digest, token: Token) {
        self.live.pin().insert(DigestKey::new(digest), token);
    }

    /// Moves a token to the retired ones.
    pub(super) fn retire(&self, digest: &Digest, key_id: KeyId) {
        self.insert_retired(DigestKey::new(digest), key_id);
        self.live.pin().remove(&DigestKey::new(digest));
    }

    pub(super) fn insert_retired(&self, digest: DigestKey<16>, key_id: KeyId) {
        self.retired.pin().insert(digest, key_id);
    }

    pub(super) fn find_retired(&self, digest: &DigestKey<16>) -> Option<KeyId> {
        self.retired.pin().get(digest).copied()
    }

    pub(super) fn retired_len(&self) -> usize {
        self.retired.len()
    }

    /// Passes all retired tokens to `f` in pieces. Tokens retired meanwhile may be included.
    pub(super) fn try_for_each_retired<E>(
        &self,
        at_a_time: usize,
        mut f: impl FnMut(Vec<(DigestKey<16>, KeyId)>) -> Result<(), E>,
    ) -> Result<(), E> {
        let retired = self.retired.pin();
        let mut retired = retired.iter().map(|(digest, key_id)| (*digest, *key_id));
        loop {
            let piece: Vec<_> = retired.by_ref().take(at_a_time).collect();
            if piece.is_empty() {
                return Ok(());
            }
            f(piece)?;
        }
    }
}
