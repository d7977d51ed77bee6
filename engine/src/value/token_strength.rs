//! Whether the digits of a token were drawn at random. Tokens that this service generates always are; one
//! that a person supplies may have been typed.

use std::collections::HashSet;

/// 43 random base62 digits contain about 31 different ones. One in a thousand billion contains fewer than
/// this.
const DISTINCT_MIN: usize = 16;
/// So many digits in a row do not repeat, and do not count up or down, by chance: once in a billion tokens.
const PATTERN_LEN: usize = 8;

/// Whether the digits look like those that a person chose: few different ones, a part that is repeated, or
/// one that counts, such as `0000`, `abcabc` or `12345678`.
#[must_use]
pub(super) fn is_guessable(digits: &[u8]) -> bool {
    let distinct: HashSet<u8> = digits.iter().copied().collect();
    let mut parts = HashSet::new();
    let repeats = digits.windows(PATTERN_LEN).any(|part| !parts.insert(part));
    distinct.len() < DISTINCT_MIN || repeats || digits.windows(PATTERN_LEN).any(counts)
}

/// Whether the step from each digit to the next is the same.
fn counts(part: &[u8]) -> bool {
    let mut steps = part.iter().zip(part.iter().skip(1)).map(|(one, next)| next.wrapping_sub(*one));
    let first = steps.next();
    steps.all(|step| Some(step) == first)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn random_digits_are_not_guessable() {
        const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..20_000 {
            let digits: Vec<u8> = (0..43).map(|_| BASE62[rng.random_range(0..BASE62.len())]).collect();
            assert!(!is_guessable(&digits), "{}", String::from_utf8_lossy(&digits));
        }
    }

    #[test]
    fn digits_that_a_person_types_are_guessable() {
        for digits in [
            "0000000000000000000000000000000000000000000",
            "abcabcabcabcabcabcabcabcabcabcabcabcabcabca",
            "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg",
            "zyxwvutsrqponmlkjihgfedcbaZYXWVUTSRQPONMLKJ",
            "correcthorsebatterystaplecorrecthorsebatter",
            "MyBootstrapKeyForTests0MyBootstrapKeyForTes",
        ] {
            assert_eq!(digits.len(), 43);
            assert!(is_guessable(digits.as_bytes()), "{digits}");
        }
    }
}
