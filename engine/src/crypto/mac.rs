//! HMAC-SHA-256 (RFC 2104), the one implementation for bytes that vouch for themselves: only who has the key
//! can make the code.

use aws_lc_rs::hmac;

/// Length of a code, in bytes.
pub const MAC_LEN: usize = 32;

/// A key for one purpose. It has no `Debug`, `Display` or `Serialize`, and is wiped when dropped.
#[derive(Clone)]
pub struct MacKey(hmac::Key);

impl MacKey {
    /// Derives the key of `purpose` from a secret. Keys of different purposes say nothing about each other,
    /// nor about the secret.
    #[must_use]
    pub fn derive(secret: &[u8; 32], purpose: &str) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&secret, purpose.as_bytes()).as_ref()))
    }

    /// Begins a code over bytes that arrive in parts.
    #[must_use]
    pub fn begin(&self) -> Mac {
        Mac(hmac::Context::with_key(&self.0))
    }
}

/// A code in the making. It depends on the concatenated bytes only, not on where the parts are cut.
pub struct Mac(hmac::Context);

impl Mac {
    /// Appends `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the code of all bytes appended.
    #[must_use]
    pub fn finalize(self) -> [u8; MAC_LEN] {
        let mut code = [0; MAC_LEN];
        code.iter_mut().zip(self.0.sign().as_ref()).for_each(|(byte, made)| *byte = *made);
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(key: &MacKey, parts: &[&[u8]]) -> [u8; MAC_LEN] {
        let mut mac = key.begin();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize()
    }

    #[test]
    fn a_code_depends_on_secret_purpose_and_bytes() {
        let key = MacKey::derive(&[1; 32], "a snapshot");
        let expected = code(&key, &[b"what is vouched for"]);
        assert_eq!(code(&key, &[b"what is", b" vouched", b"", b" for"]), expected);
        assert_eq!(code(&MacKey::derive(&[1; 32], "a snapshot"), &[b"what is vouched for"]), expected);
        assert_ne!(code(&key, &[b"what is vouched for."]), expected);
        assert_ne!(code(&MacKey::derive(&[2; 32], "a snapshot"), &[b"what is vouched for"]), expected);
        assert_ne!(code(&MacKey::derive(&[1; 32], "a backup"), &[b"what is vouched for"]), expected);
    }
}
