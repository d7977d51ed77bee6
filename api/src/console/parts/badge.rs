//! A status as a word with a shape and a colour, so that colour alone carries no meaning.

use std::fmt;

use super::icon::Icon;

#[derive(Debug, Clone)]
pub(crate) struct Badge {
    class: &'static str,
    icon: Icon,
    word: String,
}

impl Badge {
    /// Returns the badge of a status as the API names it.
    pub(crate) fn of(status: &str) -> Self {
        let (class, icon) = match status {
            "active" | "enabled" => ("good", Icon::TICK),
            "pending" | "expired" => ("warn", Icon::CLOCK),
            "revoked" | "disabled" => ("bad", Icon::STOP),
            _ => ("idle", Icon::CLOSE),
        };
        let mut letters = status.chars();
        let word = letters.next().map(|first| first.to_uppercase().chain(letters).collect());
        Self { class, icon, word: word.unwrap_or_default() }
    }

    /// Replaces the word.
    #[must_use]
    pub(crate) fn saying(mut self, words: &str) -> Self {
        self.word = words.into();
        self
    }
}

impl fmt::Display for Badge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"<span class="badge {}">{}"#, self.class, self.icon)?;
        for character in self.word.chars().filter(|it| it.is_ascii_alphabetic() || *it == ' ') {
            fmt::Write::write_char(f, character)?;
        }
        f.write_str("</span>")
    }
}

/// Display writes letters and spaces only.
impl askama::filters::HtmlSafe for Badge {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_badge_shows_letters_only() {
        assert!(Badge::of("revoked").to_string().ends_with("</svg>Revoked</span>"));
        assert!(Badge::of("<b>new").to_string().ends_with("</svg>bnew</span>"));
    }
}
