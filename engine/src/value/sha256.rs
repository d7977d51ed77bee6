//! SHA-256 (FIPS 180-4) of bytes that are all there.

use aws_lc_rs::digest::{SHA256, digest};

/// The hash of `bytes`. Where processors have no instructions for it, this library takes half the time of sha2.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use sha2::Digest as _;

    use super::*;

    #[test]
    fn it_is_sha_256() {
        for len in 0..200 {
            let bytes: Vec<u8> = (0..len).collect();
            assert_eq!(sha256(&bytes), <[u8; 32]>::from(sha2::Sha256::digest(&bytes)));
        }
    }
}
