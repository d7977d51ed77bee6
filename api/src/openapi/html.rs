//! The shared parts of all pages: escaping, running text, and the frame around the content.

use std::fmt::Write;

use crate::answer::code::Code;
use keyledger_engine::crypto::sha256::sha256;

/// The style of all pages. Each page includes it, so that a saved page keeps its look.
const STYLE: &str = include_str!("style.css");
/// A key on the accent colour.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 \
    32'%3E%3Crect width='32' height='32' rx='7' fill='%231f5fd0'/%3E%3Cg fill='none' stroke='white' \
    stroke-width='3' stroke-linecap='round'%3E%3Ccircle cx='11.5' cy='16' r='4.5'/%3E%3Cpath d='M16 \
    16h9v4.5M21 16v3.5'/%3E%3C/g%3E%3C/svg%3E";

/// Escapes text for HTML content and quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Formats a sentence: text between backticks becomes code, and a problem's code links to its page.
pub(super) fn prose(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for (index, part) in text.split('`').enumerate() {
        let escaped = escape(part);
        let _ = match (index % 2 == 1, Code::ALL.iter().any(|code| code.as_str() == part)) {
            (false, _) => write!(html, "{escaped}"),
            (true, false) => write!(html, "<code>{escaped}</code>"),
            (true, true) => write!(html, "<a href=\"/problems/{escaped}\"><code>{escaped}</code></a>"),
        };
    }
    html
}

/// Formats paragraphs that are separated by empty lines.
pub(super) fn paragraphs(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(str::trim).filter(|it| !it.is_empty());
    paragraphs.map(|paragraph| format!("<p>{}</p>\n", prose(paragraph))).collect()
}

/// Formats a path that may break after each slash.
pub(super) fn path(path: &str) -> String {
    escape(path).replace('/', "/<wbr>").replacen("/<wbr>", "/", 1)
}

/// Formats a status with its reason, such as `200 OK`.
pub(super) fn status(code: &str) -> String {
    let known = code.parse().ok().and_then(|code: u16| http::StatusCode::from_u16(code).ok());
    let word = known.and_then(|status| status.canonical_reason()).unwrap_or("");
    let class = match code.chars().next() {
        Some('2' | '3') => "good",
        Some('5') => "fault",
        _ => "refusal",
    };
    format!("<span class=\"status {class}\"><b>{}</b> {}</span>", escape(code), escape(word))
}

/// The page that the head of the sidebar marks as current.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The endpoints.
    Endpoints,
    /// The list of problems.
    Problems,
    /// The page of one problem.
    Problem,
}

/// Returns a whole page. `navigation` and `content` are HTML; `title` and `description` are text.
pub(super) fn frame(place: Place, title: &str, description: &str, navigation: &str, content: &str) -> String {
    let current = |is: bool| if is { " aria-current=\"page\"" } else { "" };
    let places = format!(
        "<ul class=\"places\">\n<li><a href=\"/docs\"{}>API reference</a></li>\n\
         <li><a href=\"/problems\"{}>Problems</a></li>\n<li><a href=\"/openapi.json\">OpenAPI document</a>\
         </li>\n</ul>",
        current(place == Place::Endpoints),
        current(place == Place::Problems),
    );
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title} · Keyledger</title>\n\
         <meta name=\"description\" content=\"{description}\">\n<link rel=\"icon\" href=\"{ICON}\">\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#content\">Skip to the content\
         </a>\n\
         <header class=\"bar\"><a class=\"brand\" href=\"/docs\">Keyledger</a><a href=\"#menu\">Menu</a>\
         </header>\n\
         <nav class=\"side\" aria-label=\"Reference\">\n<a class=\"brand\" href=\"/docs\">Keyledger</a>\n\
         {places}\n{navigation}</nav>\n\
         <main id=\"content\" tabindex=\"-1\">\n{content}</main>\n\
         <nav class=\"menu\" id=\"menu\" aria-label=\"Menu\">\n{places}\n{navigation}</nav>\n</body>\n\
         </html>\n",
        title = escape(title),
        description = escape(description),
    )
}

/// Returns the policy of a page, which allows its own style, by digest, and its icon.
pub(super) fn content_security_policy() -> String {
    format!(
        "default-src 'none'; style-src 'sha256-{}'; img-src 'self' data:; form-action 'none'; \
         frame-ancestors 'none'; base-uri 'none'",
        base64(&sha256(STYLE.as_bytes()))
    )
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = 0_usize;
        for index in 0..3 {
            group = group << 8 | usize::from(chunk.get(index).copied().unwrap_or(0));
        }
        for index in 0..4 {
            let digit = ALPHABET.get(group >> (18 - 6 * index) & 63).copied().unwrap_or(b'A');
            text.push(if index > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_rfc_4648_has_it() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
        assert_eq!(
            prose("`<b>` & `forbidden`"),
            "<code>&lt;b&gt;</code> &amp; <a href=\"/problems/forbidden\"><code>forbidden</code></a>"
        );
    }
}
