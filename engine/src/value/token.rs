//! Tokens of keys and secrets of callers: how they are generated, checked and hashed.
//!
//! A key's token is `<prefix>_<environment>_<43 base62 digits of 32 random bytes><6 base62 digits of a
//! CRC-32>`. A caller's secret is `<word>_<43><6>`; the word names its purpose ([`SecretKind`]). base62 is
//! `0-9A-Za-z`. Both numbers are big-endian and zero-padded; the CRC is zlib's, over all the ASCII before it.
//! The checksum lets secret scanners and this service reject a mistyped or made-up token without a lookup. It
//! proves nothing else.

use std::fmt;
use std::sync::Arc;

use rand::TryCryptoRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::crypto::sha256::sha256;
use crate::value::environment::Environment;
use crate::value::token_strength;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SECRET_DIGITS: usize = 43;
const CHECKSUM_DIGITS: usize = 6;
const START_DIGITS: usize = 4;
const LAST_DIGITS: usize = 4;

/// Maximum length of a token, in bytes.
pub const TOKEN_LEN_MAX: usize = TokenPrefix::LEN_MAX + "_preview_".len() + SECRET_DIGITS + CHECKSUM_DIGITS;

/// Purpose of a caller's secret. Its word is the secret's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecretKind {
    /// Token of a root key.
    RootKey,
    /// Client secret of an application.
    ClientSecret,
    /// Secret in the link to a portal session.
    PortalLink,
    /// Secret of a portal or console session, in the browser's cookie.
    PortalSession,
}

impl SecretKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::RootKey, Self::ClientSecret, Self::PortalLink, Self::PortalSession];

    /// The prefix of secrets of this kind.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::RootKey => "klroot",
            Self::ClientSecret => "klsecret",
            Self::PortalLink => "kllink",
            Self::PortalSession => "klsession",
        }
    }
}

/// Prefix of a key's tokens: `kl`, or the prefix that its API sets. `[a-z][a-z0-9]{0,15}`, but not the word
/// of a [`SecretKind`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenPrefix(Box<str>);

impl TokenPrefix {
    /// Maximum length of a prefix, in bytes.
    pub const LEN_MAX: usize = 16;

    /// Validates a prefix.
    ///
    /// # Errors
    /// When it has another form, or is reserved for the secrets of callers.
    pub fn new(text: &str) -> Result<Self, crate::value::text::InvalidText> {
        if SecretKind::ALL.iter().any(|kind| kind.word() == text) {
            return Err(crate::value::text::InvalidText::new(
                "is reserved for secrets of callers; choose another",
            ));
        }
        if !is_prefix(text.as_bytes()) {
            return Err(crate::value::text::InvalidText::new(
                "must be 1 to 16 lower-case letters and digits, and begin with a letter",
            ));
        }
        Ok(Self(text.into()))
    }

    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TokenPrefix {
    fn default() -> Self {
        Self("kl".into())
    }
}

fn is_prefix(text: &[u8]) -> bool {
    text.len() <= TokenPrefix::LEN_MAX
        && text.split_first().is_some_and(|(first, rest)| {
            first.is_ascii_lowercase() && rest.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        })
}

/// SHA-256 of a whole token. Nothing else of the secret is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Hides the bytes: digests stay out of logs and messages.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

/// Bytes in binary formats, for the log and for index snapshots. Fails in human-readable formats.
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return Err(serde::ser::Error::custom("a digest is not shown"));
        }
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(crate::value::fixed_bytes::FixedBytes::<32>).map(Self)
    }
}

/// The parts of a token that may be shown later. Cheap to clone, because every reader of the log holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenHint {
    /// Prefix, environment and the first four digits, such as `kl_live_ab12`.
    pub start: Arc<str>,
    /// The last four characters.
    pub last_four: Arc<str>,
}

/// Newly generated token. It has no `Debug`, `Display` or `Serialize`, and is wiped from memory on drop.
pub struct Token(Zeroizing<String>);

impl Token {
    /// Generates a key's token from 32 random bytes.
    ///
    /// # Errors
    /// When the random number generator fails.
    pub fn generate<R: TryCryptoRng>(
        prefix: &TokenPrefix,
        environment: Environment,
        rng: &mut R,
    ) -> Result<Self, R::Error> {
        Self::generate_after(&[prefix.as_str(), "_", environment.token_word(), "_"], rng)
    }

    /// Generates a root key's token from 32 random bytes.
    ///
    /// # Errors
    /// When the random number generator fails.
    pub fn generate_root<R: TryCryptoRng>(rng: &mut R) -> Result<Self, R::Error> {
        Self::generate_secret(SecretKind::RootKey, rng)
    }

    /// Generates a caller's secret from 32 random bytes.
    ///
    /// # Errors
    /// When the random number generator fails.
    pub fn generate_secret<R: TryCryptoRng>(kind: SecretKind, rng: &mut R) -> Result<Self, R::Error> {
        Self::generate_after(&[kind.word(), "_"], rng)
    }

    fn generate_after<R: TryCryptoRng>(lead: &[&str], rng: &mut R) -> Result<Self, R::Error> {
        let mut random = Zeroizing::new([0_u8; 32]);
        rng.try_fill_bytes(random.as_mut_slice())?;
        // Full capacity up front: growing the string would leave an unwiped copy behind.
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_LEN_MAX));
        for part in lead {
            text.push_str(part);
        }
        push_base62_of_bytes(&mut text, &random);
        let checksum = base62_of_checksum(crc32fast::hash(text.as_bytes()));
        text.extend(checksum.iter().map(|&digit| char::from(digit)));
        Ok(Self(text))
    }

    /// The token itself, for the one answer that shows it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// SHA-256 of the token.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(sha256(self.0.as_bytes()))
    }

    /// The parts that may be shown later.
    #[must_use]
    pub fn hint(&self) -> TokenHint {
        hint_of(&self.0)
    }
}

fn hint_of(text: &str) -> TokenHint {
    let lead = text.len() - SECRET_DIGITS - CHECKSUM_DIGITS;
    TokenHint {
        start: text.get(..lead + START_DIGITS).unwrap_or_default().into(),
        last_four: text.get(text.len() - LAST_DIGITS..).unwrap_or_default().into(),
    }
}

/// Appends 32 bytes, read as one big-endian number, as 43 digits.
fn push_base62_of_bytes(text: &mut Zeroizing<String>, bytes: &[u8; 32]) {
    let mut limbs = Zeroizing::new([0_u32; 8]);
    for (limb, chunk) in limbs.iter_mut().zip(bytes.chunks_exact(4)) {
        *limb = chunk.iter().fold(0, |value, &byte| value << 8 | u32::from(byte));
    }
    let mut digits = Zeroizing::new([0_u8; SECRET_DIGITS]);
    // Five digits at a time: a remainder below 62^5 and a limb together fit 64 bits.
    for five in digits.rchunks_mut(5) {
        let mut remainder = 0_u64;
        for limb in limbs.iter_mut() {
            let value = remainder << 32 | u64::from(*limb);
            *limb = (value / 62_u64.pow(5)) as u32;
            remainder = value % 62_u64.pow(5);
        }
        for digit in five.iter_mut().rev() {
            *digit = base62_digit(remainder % 62);
            remainder /= 62;
        }
    }
    text.extend(digits.iter().map(|&digit| char::from(digit)));
}

fn base62_of_checksum(mut value: u32) -> [u8; CHECKSUM_DIGITS] {
    let mut digits = [b'0'; CHECKSUM_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = base62_digit(u64::from(value % 62));
        value /= 62;
    }
    digits
}

fn base62_digit(value: u64) -> u8 {
    BASE62.get(value as usize).copied().unwrap_or(b'0')
}

/// Error for a text that is not a token: wrong form or wrong checksum. It does not contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token: its form or its checksum is wrong")]
pub struct MalformedToken;

/// Token from a request whose form and checksum are valid. It borrows the text and has no `Debug`.
#[derive(Clone, Copy)]
pub struct PresentedToken<'a> {
    text: &'a str,
}

impl<'a> PresentedToken<'a> {
    /// Checks the form and checksum of a key's token, without allocating.
    ///
    /// # Errors
    /// When either is wrong.
    pub fn parse(text: &'a str) -> Result<Self, MalformedToken> {
        let (prefix, environment) = lead_of(text)?.split_once('_').ok_or(MalformedToken)?;
        if Environment::from_token_word(environment).is_none() || !is_prefix(prefix.as_bytes()) {
            return Err(MalformedToken);
        }
        check_digits(text)
    }

    /// Checks the form and checksum of a root key's token, without allocating.
    ///
    /// # Errors
    /// When either is wrong.
    pub fn parse_root(text: &'a str) -> Result<Self, MalformedToken> {
        Self::parse_secret(SecretKind::RootKey, text)
    }

    /// Checks the form and checksum of a caller's secret of this kind, without allocating.
    ///
    /// # Errors
    /// When either is wrong.
    pub fn parse_secret(kind: SecretKind, text: &'a str) -> Result<Self, MalformedToken> {
        if lead_of(text)? != kind.word() {
            return Err(MalformedToken);
        }
        check_digits(text)
    }

    /// SHA-256 of the token.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(sha256(self.text.as_bytes()))
    }

    /// The parts that may be shown later.
    #[must_use]
    pub fn hint(&self) -> TokenHint {
        hint_of(self.text)
    }

    /// Whether its digits are certainly not random, such as zeros or a repeated word.
    #[must_use]
    pub fn is_guessable(&self) -> bool {
        let digits = self.text.len().saturating_sub(SECRET_DIGITS + CHECKSUM_DIGITS);
        let digits = self.text.as_bytes().get(digits..self.text.len().saturating_sub(CHECKSUM_DIGITS));
        digits.is_none_or(token_strength::is_guessable)
    }
}

/// The text before the last underscore and the 49 digits that follow it.
fn lead_of(text: &str) -> Result<&str, MalformedToken> {
    if text.len() > TOKEN_LEN_MAX {
        return Err(MalformedToken);
    }
    let end = text.len().checked_sub(SECRET_DIGITS + CHECKSUM_DIGITS + 1).ok_or(MalformedToken)?;
    match text.as_bytes().get(end) {
        Some(b'_') => text.get(..end).ok_or(MalformedToken),
        _ => Err(MalformedToken),
    }
}

/// Checks every character and decides once: the digits are random, so a branch for each would be
/// mispredicted.
fn are_base62_digits(text: &[u8]) -> bool {
    text.iter().fold(true, |so_far, &character| {
        let is_letter = (character | 0x20).wrapping_sub(b'a') < 26;
        let is_digit = character.wrapping_sub(b'0') < 10;
        so_far & (is_letter | is_digit)
    })
}

fn check_digits(text: &str) -> Result<PresentedToken<'_>, MalformedToken> {
    let bytes = text.as_bytes();
    let (signed, checksum) = bytes.split_at_checked(bytes.len() - CHECKSUM_DIGITS).ok_or(MalformedToken)?;
    let secret = signed.get(signed.len() - SECRET_DIGITS..).ok_or(MalformedToken)?;
    if !are_base62_digits(secret) || base62_of_checksum(crc32fast::hash(signed)) != checksum {
        return Err(MalformedToken);
    }
    Ok(PresentedToken { text })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_token_has_the_documented_form() {
        let mut rng = StdRng::seed_from_u64(1);
        for environment in [Environment::Production, Environment::Preview] {
            let token = Token::generate(&TokenPrefix::default(), environment, &mut rng).unwrap();
            let text = token.expose();
            let digits = text.strip_prefix(&format!("kl_{}_", environment.token_word())).unwrap();
            assert_eq!(digits.len(), 49);
            assert!(digits.bytes().all(|b| b.is_ascii_alphanumeric()));
            let presented = PresentedToken::parse(text).ok().unwrap();
            assert_eq!(presented.digest(), token.digest());
            assert_eq!(&*token.hint().start, &text[..text.len() - 45]);
            assert_eq!(&*token.hint().last_four, &text[text.len() - 4..]);
        }
    }

    #[test]
    fn digits_are_big_endian_and_zero_padded() {
        let mut text = Zeroizing::new(String::new());
        let mut bytes = [0; 32];
        bytes[31] = 62;
        push_base62_of_bytes(&mut text, &bytes);
        assert_eq!(text.as_str(), format!("{}10", "0".repeat(41)));
        assert_eq!(&base62_of_checksum(61), b"00000z");
        assert_eq!(&base62_of_checksum(u32::MAX), b"4gfFC3");
    }

    #[test]
    fn base62_digits_are_distinguished_from_all_other_bytes() {
        for byte in 0..=u8::MAX {
            assert_eq!(are_base62_digits(&[b'0', byte, b'z']), BASE62.contains(&byte), "{byte}");
        }
    }

    #[test]
    fn every_single_changed_character_is_refused() {
        let mut rng = StdRng::seed_from_u64(2);
        let token = Token::generate(&TokenPrefix::default(), Environment::Production, &mut rng).unwrap();
        for index in 0..token.expose().len() {
            let mut bytes = token.expose().as_bytes().to_vec();
            bytes[index] = if bytes[index] == b'x' { b'y' } else { b'x' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(PresentedToken::parse(&changed).is_err(), "index {index}");
        }
    }

    #[test]
    fn root_tokens_and_key_tokens_do_not_mix() {
        let mut rng = StdRng::seed_from_u64(3);
        let root = Token::generate_root(&mut rng).unwrap();
        assert!(PresentedToken::parse_root(root.expose()).is_ok());
        assert!(PresentedToken::parse(root.expose()).is_err());
        let key = Token::generate(&TokenPrefix::default(), Environment::Preview, &mut rng).unwrap();
        assert!(PresentedToken::parse_root(key.expose()).is_err());
        for text in ["", "_", "kl_live_", "é", &"é".repeat(40), &"a".repeat(500)] {
            assert!(PresentedToken::parse(text).is_err());
            assert!(PresentedToken::parse_root(text).is_err());
        }
    }
}
