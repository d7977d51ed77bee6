//! What one page has to say on the next: a few words, a way to undo, and how much of the log the next page must know.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};
use keyledger_engine::value::id::KeyId;
use serde::{Deserialize, Serialize};

use super::theme::cookie;

const COOKIE: &str = "keyledger_notice";
/// Longer names are cut: a cookie has little room.
const NAME_CHARS_MAX: usize = 60;

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
        let bytes = URL_SAFE_NO_PAD.decode(cookie(headers, COOKIE)?).ok()?;
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
        set(headers, &format!("{COOKIE}={text}; Path=/console; Max-Age=60; HttpOnly; SameSite=Strict"));
    }

    /// Takes it away from a browser that has shown it.
    pub(crate) fn forget(headers: &mut HeaderMap) {
        set(headers, &format!("{COOKIE}=; Path=/console; Max-Age=0; HttpOnly; SameSite=Strict"));
    }
}

fn set(headers: &mut HeaderMap, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        headers.append(header::SET_COOKIE, value);
    }
}

/// A name as it stands in a few words. One that may be written from right to left, or that turns the direction, keeps to
/// itself: it stands between a first strong isolate and its end (Unicode TR 9).
pub(crate) fn shortened(name: &str) -> String {
    let short: Cow<'_, str> = match name.char_indices().nth(NAME_CHARS_MAX) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()).into(),
        None => name.into(),
    };
    if short.chars().any(turns) { format!("\u{2068}{short}\u{2069}") } else { short.into() }
}

/// Whether a character is of a script that is written from right to left, or a mark that turns the direction.
fn turns(char: char) -> bool {
    matches!(char, '\u{590}'..='\u{8ff}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}' | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
}

#[cfg(test)]
mod tests {
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
        assert_eq!(shortened(&"ä".repeat(61)).chars().count(), 61);
        assert_eq!(shortened("\u{202e}gnp.exe"), "\u{2068}\u{202e}gnp.exe\u{2069}");
        assert_eq!(shortened("مفتاح"), "\u{2068}مفتاح\u{2069}");
    }
}
