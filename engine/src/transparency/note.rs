//! Signed notes and their keys (C2SP signed-note), with Ed25519 (RFC 8032).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::TryCryptoRng;
use zeroize::Zeroizing;

use crate::crypto::mac::MacKey;
use crate::crypto::sha256::Sha256;
use crate::value::time::Timestamp;

/// Signature type for Ed25519.
const ED25519_TYPE: u8 = 1;
/// Signature type for a witness's timestamped Ed25519 cosignature (C2SP tlog-cosignature).
const COSIGNATURE_TYPE: u8 = 4;
/// Prefix of a signing key's text.
const PRIVATE: &str = "PRIVATE+KEY+";
/// Maximum number of signatures; notes with more are refused.
const SIGNATURES_MAX: usize = 64;

type KeyId = [u8; 4];

/// Error for a text that is not a key. It does not contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a signed-note key, or its parts do not match")]
pub struct InvalidKey;

/// Error for a text that is not a valid key name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 255 visible characters without spaces and plus signs, such as example.com/keyledger")]
pub struct InvalidName;

/// Name of a key and of its log: 1 to 255 bytes without spaces, control characters and plus signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyName(String);

impl KeyName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_plain = text.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '+');
        if (1..=255).contains(&text.len()) && is_plain { Ok(Self(text.to_owned())) } else { Err(InvalidName) }
    }
}

/// Signing key. It has no `Debug`, `Display` or `Serialize`.
pub struct Signer {
    verifier: Verifier,
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
}

impl Signer {
    /// Generates a key.
    ///
    /// # Errors
    /// When the random number generator fails.
    pub fn generate<R: TryCryptoRng>(name: KeyName, rng: &mut R) -> Result<Self, R::Error> {
        let mut seed = Zeroizing::new([0; 32]);
        loop {
            rng.try_fill_bytes(seed.as_mut_slice())?;
            // Every seed is a valid key, but the type of the library allows for failure.
            if let Ok(signer) = Self::from_seed(name.clone(), seed.clone()) {
                return Ok(signer);
            }
        }
    }

    fn from_seed(name: KeyName, seed: Zeroizing<[u8; 32]>) -> Result<Self, InvalidKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| InvalidKey)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| InvalidKey)?;
        Ok(Self { verifier: Verifier(PublicKey::new(name.0, public)), seed, pair })
    }

    /// Parses the text of [`Signer::expose`].
    ///
    /// # Errors
    /// When the text is not a signing key.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let parts = text.trim().strip_prefix(PRIVATE).ok_or(InvalidKey)?;
        let mut parts = parts.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(InvalidKey);
        };
        let key = Zeroizing::new(STANDARD.decode(key).map_err(|_| InvalidKey)?);
        let (ED25519_TYPE, seed) = key.split_first().map(|(first, rest)| (*first, rest)).ok_or(InvalidKey)?
        else {
            return Err(InvalidKey);
        };
        let seed = Zeroizing::new(<[u8; 32]>::try_from(seed).map_err(|_| InvalidKey)?);
        let signer = Self::from_seed(name.parse().map_err(|_| InvalidKey)?, seed)?;
        if signer.verifier.0.id_text() == id { Ok(signer) } else { Err(InvalidKey) }
    }

    /// The key as text, for its file: `PRIVATE+KEY+<name>+<id>+<key>`, as in Go's note package.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let mut key = Zeroizing::new(vec![ED25519_TYPE]);
        key.extend_from_slice(self.seed.as_slice());
        let key = Zeroizing::new(STANDARD.encode(&*key));
        let PublicKey { name, .. } = &self.verifier.0;
        Zeroizing::new(format!("{PRIVATE}{name}+{}+{}", self.verifier.0.id_text(), *key))
    }

    /// Derives a key for codes over bytes that the owner of this key alone may have written.
    #[must_use]
    pub fn mac_key(&self, purpose: &str) -> MacKey {
        MacKey::derive(&self.seed, purpose)
    }

    /// The key that verifies signatures of this one.
    #[must_use]
    pub const fn verifier(&self) -> &Verifier {
        &self.verifier
    }
}

/// Key that verifies signatures. Its text is `<name>+<id>+<key>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier(PublicKey<ED25519_TYPE>);

impl Verifier {
    /// Name of the key.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Verifier {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        text.parse().map(Self)
    }
}

/// Key that verifies a witness's cosignatures (C2SP tlog-cosignature). A cosignature attests that, at its
/// time, the tree was the largest that the witness had seen of this log, and consistent with everything it
/// had seen before. The text of the key is `<name>+<id>+<key>`; only Ed25519 keys are supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessKey(PublicKey<COSIGNATURE_TYPE>);

impl WitnessKey {
    /// Name of the witness.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The latest valid cosignature of this witness in a note, with its time; `None` when there is none.
    #[must_use]
    pub fn cosignature(&self, note: &Note) -> Option<(Timestamp, Signature)> {
        let valid = note.signatures_of(&self.0).filter_map(|signature| {
            let (seconds, bytes) = signature.bytes.split_first_chunk()?;
            let seconds = u64::from_be_bytes(*seconds);
            let text = format!("cosignature/v1\ntime {seconds}\n{}", note.text);
            let time = i64::try_from(seconds).ok()?.checked_mul(1_000).map(Timestamp::from_millis)?;
            self.0.verifies(text.as_bytes(), bytes).then(|| (time, signature.clone()))
        });
        valid.max_by_key(|(time, _)| *time)
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for WitnessKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        text.parse().map(Self)
    }
}

/// Named Ed25519 key for signatures of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PublicKey<const TYPE: u8> {
    name: String,
    id: KeyId,
    public: [u8; 32],
}

impl<const TYPE: u8> PublicKey<TYPE> {
    fn new(name: String, public: [u8; 32]) -> Self {
        let hash =
            Sha256::new().chain_update(&name).chain_update([b'\n', TYPE]).chain_update(public).finalize();
        let mut id = [0; 4];
        id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        Self { name, id, public }
    }

    fn id_text(&self) -> String {
        format!("{:08x}", u32::from_be_bytes(self.id))
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public).verify(message, signature).is_ok()
    }
}

impl<const TYPE: u8> fmt::Display for PublicKey<TYPE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key: Vec<u8> = std::iter::once(TYPE).chain(self.public).collect();
        write!(f, "{}+{}+{}", self.name, self.id_text(), STANDARD.encode(key))
    }
}

impl<const TYPE: u8> FromStr for PublicKey<TYPE> {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(InvalidKey);
        };
        let name: KeyName = name.parse().map_err(|_| InvalidKey)?;
        let key = STANDARD.decode(key).map_err(|_| InvalidKey)?;
        let (kind, public) = key.split_first().ok_or(InvalidKey)?;
        let key = Self::new(name.0, public.try_into().map_err(|_| InvalidKey)?);
        if *kind == TYPE && key.id_text() == id { Ok(key) } else { Err(InvalidKey) }
    }
}

/// Text with its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

/// Signature of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    name: String,
    id: KeyId,
    bytes: Vec<u8>,
}

impl Note {
    /// Signs a text, which must end with a newline.
    #[must_use]
    pub fn sign(text: String, signer: &Signer) -> Self {
        let bytes = signer.pair.sign(text.as_bytes()).as_ref().to_vec();
        let PublicKey { name, id, .. } = &signer.verifier.0;
        let signature = Signature { name: name.clone(), id: *id, bytes };
        Self { text, signatures: vec![signature] }
    }

    /// Parses a note; `None` when it is malformed.
    #[must_use]
    pub fn parse(note: &str) -> Option<Self> {
        // The last blank line separates text and signatures: the text may contain blank lines too.
        let at = note.rfind("\n\n")?;
        let (text, signatures) = (note.get(..=at)?, note.get(at + 2..)?);
        let lines: Vec<&str> = signatures.strip_suffix('\n')?.split('\n').collect();
        if lines.len() > SIGNATURES_MAX {
            return None;
        }
        let signatures = lines.into_iter().map(Signature::parse).collect::<Option<_>>()?;
        Some(Self { text: text.to_owned(), signatures })
    }

    /// The text, without signatures.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the note has a signature of this key, and no invalid one under its name and id.
    #[must_use]
    pub fn is_signed_by(&self, verifier: &Verifier) -> bool {
        let mut own = self.signatures_of(&verifier.0).peekable();
        own.peek().is_some() && own.all(|it| verifier.0.verifies(self.text.as_bytes(), &it.bytes))
    }

    /// Adds a signature. It replaces an earlier one of the same key.
    pub fn add(&mut self, signature: Signature) {
        self.signatures.retain(|it| it.name != signature.name || it.id != signature.id);
        self.signatures.push(signature);
    }

    fn signatures_of<const TYPE: u8>(&self, key: &PublicKey<TYPE>) -> impl Iterator<Item = &Signature> {
        self.signatures.iter().filter(|it| it.name == key.name && it.id == key.id)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for Signature { name, id, bytes } in &self.signatures {
            let signature: Vec<u8> = id.iter().chain(bytes).copied().collect();
            writeln!(f, "\u{2014} {name} {}", STANDARD.encode(signature))?;
        }
        Ok(())
    }
}

impl Signature {
    fn parse(line: &str) -> Option<Self> {
        let (name, bytes) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let bytes = STANDARD.decode(bytes).ok()?;
        let (id, bytes) = bytes.split_first_chunk()?;
        Some(Self { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
    }
}
