//! What one page has to say on the next: a few words, a way to undo, and how much of the log the next page must know.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use keyledger_engine::value::id::KeyId;
use serde::{Deserialize, Serialize};

use super::cookie;

const COOKIE: &str = "keyledger_notice";

/// What the page before has to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Notice {
    /// The position that the next page must rest on, at least.
    pub position: Option<u64>,
    /// What it shows.
    pub toast: Option<Toast>,
}

/// A few words in a corner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Toast {
    /// The words.
    pub text: String,
    /// The key whose revocation can be undone.
    pub revoked_key: Option<KeyId>,
}

impl Notice {
    /// What a browser was given by the page before.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(cookie::read(headers, COOKIE)?).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Words about a change that brought the log to a position.
    pub(crate) fn of(position: Option<u64>, text: impl Into<String>) -> Self {
        Self { position, toast: Some(Toast { text: text.into(), revoked_key: None }) }
    }

    /// The same with a way to undo the revocation of a key.
    #[must_use]
    pub(crate) fn undo(mut self, key: Option<KeyId>) -> Self {
        if let Some(toast) = &mut self.toast {
            toast.revoked_key = key;
        }
        self
    }

    /// Gives it to a browser, for the next page.
    pub(crate) fn keep(&self, headers: &mut HeaderMap) {
        if *self == Self::default() {
            return;
        }
        let text = serde_json::to_vec(self).map(|bytes| URL_SAFE_NO_PAD.encode(bytes)).unwrap_or_default();
        cookie::set(
            headers,
            &format!("{COOKIE}={text}; Path=/console; Max-Age=60; HttpOnly; SameSite=Strict"),
        );
    }

    /// Takes it away from a browser that has shown it.
    pub(crate) fn forget(headers: &mut HeaderMap) {
        cookie::set(headers, &format!("{COOKIE}=; Path=/console; Max-Age=0; HttpOnly; SameSite=Strict"));
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    #[test]
    fn a_notice_comes_back_as_it_was_kept() {
        let notice = Notice::of(Some(7), "“\u{202e}<b>” revoked");
        let mut headers = HeaderMap::new();
        notice.keep(&mut headers);
        let set = headers.get(header::SET_COOKIE).unwrap().to_str().unwrap();
        let mut sent = HeaderMap::new();
        sent.insert(header::COOKIE, set.split(';').next().unwrap().parse().unwrap());
        assert_eq!(Notice::read(&sent), Some(notice));
    }
}
