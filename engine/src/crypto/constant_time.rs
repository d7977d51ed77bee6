//! Comparison of secrets in constant time.

use aws_lc_rs::constant_time::verify_slices_are_equal;

/// Whether two byte strings are equal. The time depends on their lengths only, so that a caller who measures
/// it learns nothing about the bytes of a secret. Byte strings of different lengths are unequal at once.
#[must_use]
pub fn equal(left: &[u8], right: &[u8]) -> bool {
    verify_slices_are_equal(left, right).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_equal_bytes_are_equal() {
        assert!(equal(b"", b"") && equal(b"secret", b"secret"));
        assert!(!equal(b"secret", b"secreT") && !equal(b"secret", b"secre") && !equal(b"", b"s"));
    }
}
