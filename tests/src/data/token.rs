//! The token format, implemented a second time from its documentation, to check the product's implementation.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::seed;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Base62 digits of the secret.
pub const SECRET_LEN: usize = 43;
/// Base62 digits of the checksum.
pub const CHECKSUM_LEN: usize = 6;

/// A new root key's token.
#[must_use]
pub fn root() -> String {
    with_head("klroot_", seed::fresh())
}

/// A new well-formed key token that no server has issued.
#[must_use]
pub fn unknown(prefix: &str, environment: &str) -> String {
    with_head(&format!("{prefix}_{environment}_"), seed::fresh())
}

/// The token with this head and these random bytes.
#[must_use]
pub fn with_head(head: &str, secret: [u8; 32]) -> String {
    let body = format!("{head}{}", base62(&secret, SECRET_LEN));
    let checksum = base62(&crc32(body.as_bytes()).to_be_bytes(), CHECKSUM_LEN);
    body + &checksum
}

/// Checks that `token` has the documented form with this head and a correct checksum.
///
/// # Panics
/// When it does not.
#[track_caller]
pub fn check(token: &str, head: &str) {
    let digits = token.strip_prefix(head).unwrap_or_else(|| panic!("a token does not start with {head}"));
    assert_eq!(digits.len(), SECRET_LEN + CHECKSUM_LEN, "number of digits after {head}");
    assert!(digits.bytes().all(|byte| DIGITS.contains(&byte)), "a digit after {head} is not base62");
    let (body, checksum) = token.split_at(token.len() - CHECKSUM_LEN);
    assert_eq!(checksum, base62(&crc32(body.as_bytes()).to_be_bytes(), CHECKSUM_LEN), "checksum");
}

/// The token with a different last digit, so that its checksum is wrong.
#[must_use]
pub fn with_wrong_checksum(token: &str) -> String {
    let (head, last) = token.split_at(token.len() - 1);
    format!("{head}{}", if last == "0" { "1" } else { "0" })
}

/// SHA-256 of a token.
#[must_use]
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Bytes in lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes in base64 without padding; `url` chooses the alphabet.
#[must_use]
pub fn base64(bytes: &[u8], url: bool) -> String {
    let mut alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').collect();
    alphabet.extend(if url { ['-', '_'] } else { ['+', '/'] });
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0_u8; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for index in 0..=chunk.len() {
            text.push(alphabet[(bits >> (18 - 6 * index)) as usize & 63]);
        }
    }
    text
}

/// The claims of a JWT, whose signature is not checked.
///
/// # Panics
/// When it is not a JWT.
#[track_caller]
#[must_use]
pub fn claims(jwt: &str) -> Value {
    let payload = jwt.split('.').nth(1).expect("a JWT has three parts");
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in payload.chars() {
        let value = match digit {
            'A'..='Z' => digit as u32 - 'A' as u32,
            'a'..='z' => digit as u32 - 'a' as u32 + 26,
            '0'..='9' => digit as u32 - '0' as u32 + 52,
            '-' => 62,
            '_' => 63,
            _ => panic!("not base64url: {digit}"),
        };
        (bits, count) = (bits << 6 | value, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    serde_json::from_slice(&bytes).expect("the claims of a JWT are JSON")
}

/// A big-endian number in base62, by schoolbook division, padded with zeros to `len` digits.
fn base62(number: &[u8], len: usize) -> String {
    let mut number = number.to_vec();
    let mut digits = vec![b'0'; len];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in &mut number {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 62).expect("the remainder is below 62");
            remainder = value % 62;
        }
        *digit = DIGITS[remainder as usize];
    }
    digits.into_iter().map(char::from).collect()
}

/// zlib's CRC-32, one bit at a time.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(base62(&61_u32.to_be_bytes(), 2), "0z");
        assert_eq!(base62(&62_u32.to_be_bytes(), 2), "10");
        assert_eq!(base64(b"foobar", false), "Zm9vYmFy");
        assert_eq!(base64(&[0xfb, 0xff], true), "-_8");
        assert_eq!(hex(&[0, 0xAB]), "00ab");
        let payload = base64(br#"{"exp":4000000000,"sub":"~~~"}"#, true);
        assert_eq!(claims(&format!("x.{payload}.y"))["exp"], 4_000_000_000_u64);
        check(&root(), "klroot_");
    }

    #[test]
    #[should_panic(expected = "checksum")]
    fn a_wrong_checksum_fails_the_check() {
        check(&with_wrong_checksum(&root()), "klroot_");
    }
}
