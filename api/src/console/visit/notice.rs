//! What one page leaves for the next, in a cookie: a toast, an undo, and the log position the next page must
//! include.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use keyledger_engine::value::id::KeyId;
use serde::{Deserialize, Serialize};

use super::cookie;

const COOKIE: &str = "keyledger_notice";

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Notice {
    /// The lowest log position that the next page may be based on.
    pub position: Option<u64>,
    pub toast: Option<Toast>,
}

/// A short message in the corner of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Toast {
    pub text: String,
    /// The key whose revocation the toast offers to undo.
    pub revoked_key: Option<KeyId>,
}

impl Notice {
    /// Reads the notice that the previous page left.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(cookie::read(headers, COOKIE)?).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// A toast about a change that was appended at `position`.
    pub(crate) fn of(position: Option<u64>, text: impl Into<String>) -> Self {
        Self { position, toast: Some(Toast { text: text.into(), revoked_key: None }) }
    }

    /// A toast about an edit, which may have changed nothing.
    pub(crate) fn of_edit(position: Option<u64>, version_before: u32, version_after: u32) -> Self {
        let is_same = version_before == version_after;
        Self::of(position, if is_same { "No changes were made." } else { "Changes saved." })
    }

    /// Offers to undo the revocation of `key`.
    #[must_use]
    pub(crate) fn undo(mut self, key: Option<KeyId>) -> Self {
        if let Some(toast) = &mut self.toast {
            toast.revoked_key = key;
        }
        self
    }

    /// Stores the notice for the next page.
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

    /// Removes the notice after it was shown.
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
