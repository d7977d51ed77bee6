//! Everything that a server wrote, and the search through it for secrets.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aho_corasick::AhoCorasick;
use serde_json::Value;

use crate::data::token;

/// At most this many bytes are collected. Load tests would otherwise fill the memory with one answer over and
/// over.
const COLLECTED_LEN_MAX: usize = 64 * 1024 * 1024;
/// At most this many secrets are searched for in one transcript.
const ISSUED_COUNT_MAX: usize = 3_000;

#[derive(Default)]
struct Inner {
    collected: Vec<u8>,
    /// Answers that copy stored bytes. They contain digests, as the data directory does.
    copies: Vec<u8>,
    issued: Vec<String>,
}

/// The collected output of one server. Cheap to clone.
#[derive(Clone, Default)]
pub struct Transcript(Arc<Mutex<Inner>>);

impl Transcript {
    /// Remembers a secret that must not appear anywhere.
    pub fn issue(&self, secret: &str) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.issued.len() < ISSUED_COUNT_MAX {
            inner.issued.push(secret.to_owned());
        }
    }

    /// Adds an answer. If its endpoint issues a secret, the secret is remembered and this one occurrence is
    /// not collected.
    pub fn take(&self, shows_secret: bool, head: &str, body: &[u8]) {
        let page = shows_secret.then(|| shown_on_page(body)).flatten();
        // The page of a new token shows it twice: in the field to copy from and in the example command.
        let times = if page.is_some() { 2 } else { 1 };
        let secret = page.or_else(|| shows_secret.then(|| shown_secret(body)).flatten());
        if let Some(secret) = &secret {
            self.issue(secret);
        }
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.collected.len() < COLLECTED_LEN_MAX {
            inner.collected.extend_from_slice(head.as_bytes());
            match secret {
                Some(secret) => {
                    let text = String::from_utf8_lossy(body).replacen(&secret, "", times);
                    inner.collected.extend_from_slice(text.as_bytes());
                }
                None => inner.collected.extend_from_slice(body),
            }
            inner.collected.push(b'\n');
        }
    }

    /// Adds an answer that is a copy of stored bytes, such as entries of the log.
    pub fn take_copy(&self, bytes: &[u8]) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.copies.len() < COLLECTED_LEN_MAX {
            inner.copies.extend_from_slice(bytes);
        }
    }

    /// Searches all answers and the server's output for tokens and digests, and the data directory and copies
    /// of it for tokens.
    ///
    /// # Panics
    /// When one is found. The message names the place and the form, and does not repeat the secret.
    pub fn assert_no_leak(&self, log: &str, data: &Path) {
        let (collected, copies, issued) = {
            let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (inner.collected.clone(), inner.copies.clone(), inner.issued.clone())
        };
        let output = forms(&issued, true);
        search("an HTTP answer", &collected, &output);
        search("the server's output", log.as_bytes(), &output);
        let stored = forms(&issued, false);
        search("a copy of the log", &copies, &stored);
        for path in files(data) {
            search(&path.display().to_string(), &fs::read(&path).unwrap_or_default(), &stored);
        }
    }
}

fn shown_on_page(body: &[u8]) -> Option<String> {
    let page = String::from_utf8_lossy(body);
    let (_, field) = page.split_once("id=\"token\" value=\"")?;
    field.split_once('"').map(|(token, _)| token.to_owned())
}

fn shown_secret(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let secret = ["token", "client_secret", "access_token", "apiKeyToken", "secret"]
        .iter()
        .find_map(|name| value.get(*name));
    // The secret of a link is in its fragment.
    let link = || value.get("url")?.as_str()?.split_once('#').map(|(_, secret)| secret);
    // Kinde's endpoints nest it.
    let key = || value.get("api_key")?.get("key")?.as_str();
    secret.and_then(Value::as_str).or_else(link).or_else(key).map(str::to_owned)
}

/// The byte strings that would leak a secret. Of a token the digits are enough. Digests may appear in the
/// data directory and copies of the log, and nowhere else in any encoding.
fn forms(issued: &[String], with_digests: bool) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = Vec::new();
    for secret in issued {
        // The signature is the only secret part of a JWT.
        let digits = match secret.rsplit_once('.') {
            Some((_, signature)) => signature,
            None => secret.rsplit('_').next().unwrap_or(secret),
        };
        forms.push(("token", digits.as_bytes().to_vec()));
        if with_digests {
            let digest = token::digest(secret);
            forms.push(("digest in hex", token::hex(&digest).into_bytes()));
            forms.push(("digest in upper-case hex", token::hex(&digest).to_uppercase().into_bytes()));
            forms.push(("digest in base64", token::base64(&digest, false).into_bytes()));
            forms.push(("digest in base64url", token::base64(&digest, true).into_bytes()));
            forms.push(("digest as bytes", digest.to_vec()));
            forms.push(("digest as a list of numbers", format!("{digest:?}").into_bytes()));
        }
    }
    forms
}

#[track_caller]
fn search(place: &str, text: &[u8], forms: &[(&'static str, Vec<u8>)]) {
    if text.is_empty() || forms.is_empty() {
        return;
    }
    let searcher = AhoCorasick::new(forms.iter().map(|(_, bytes)| bytes)).expect("patterns of bounded size");
    if let Some(found) = searcher.find(text) {
        let (form, bytes) = &forms[found.pattern().as_usize()];
        let before = String::from_utf8_lossy(&text[found.start().saturating_sub(160)..found.start()]);
        panic!("a {form} ({} bytes) of an issued secret is in {place}, after: {before}", bytes.len());
    }
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .flatten()
        .flat_map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { vec![entry.path()] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaks(answer: &str, log: &str, stored: &str) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let transcript = Transcript::default();
        transcript.take(true, "", br#"{"token":"kl_live_abc"}"#);
        transcript.take(false, "", answer.as_bytes());
        fs::write(directory.path().join("file"), stored).unwrap();
        std::panic::catch_unwind(|| transcript.assert_no_leak(log, directory.path())).is_err()
    }

    #[test]
    fn finds_a_secret_in_every_form_and_place() {
        let digest = token::digest("kl_live_abc");
        let hex = token::hex(&digest);
        assert!(!leaks("nothing", "nothing", &hex), "digests are allowed in the data directory");
        assert!(leaks("… kl_live_abc …", "", ""));
        assert!(leaks("", &hex, ""));
        assert!(leaks(&token::base64(&digest, false), "", ""));
        assert!(leaks("", &format!("{digest:?}"), ""));
        assert!(leaks("", "", "kl_live_abc"));
    }

    #[test]
    fn the_answer_that_issues_a_secret_may_show_it_once() {
        let transcript = Transcript::default();
        transcript.take(true, "", br#"{"token":"kl_live_abc","again":"kl_live_abc"}"#);
        let nowhere = Path::new("/nonexistent");
        assert!(std::panic::catch_unwind(|| transcript.assert_no_leak("", nowhere)).is_err());
    }
}
