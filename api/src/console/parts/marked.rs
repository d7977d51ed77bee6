//! A text with the search term marked in it.

use std::fmt;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Marked<'a> {
    text: &'a str,
    searched: &'a str,
}

impl<'a> Marked<'a> {
    /// Marks every occurrence of `searched`, ignoring case.
    pub(crate) fn new(text: &'a str, searched: Option<&'a str>) -> Self {
        Self { text, searched: searched.unwrap_or_default().trim() }
    }

    /// The length in bytes of the search term at the start of `text`, if `text` starts with it.
    fn found_at(self, text: &str) -> Option<usize> {
        let mut rest = text.char_indices();
        for wanted in self.searched.chars() {
            let (_, found) = rest.next()?;
            if found != wanted && !found.to_lowercase().eq(wanted.to_lowercase()) {
                return None;
            }
        }
        Some(text.len() - rest.as_str().len())
    }
}

impl fmt::Display for Marked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.text;
        while let Some(first) = rest.chars().next() {
            let found = self.found_at(rest).filter(|length| *length > 0);
            let (here, after) = rest.split_at(found.unwrap_or(first.len_utf8()));
            if found.is_some() {
                f.write_str("<mark>")?;
            }
            for character in here.chars() {
                match character {
                    '<' => f.write_str("&lt;")?,
                    '>' => f.write_str("&gt;")?,
                    '&' => f.write_str("&amp;")?,
                    '"' => f.write_str("&quot;")?,
                    '\'' => f.write_str("&#39;")?,
                    other => fmt::Write::write_char(f, other)?,
                }
            }
            if found.is_some() {
                f.write_str("</mark>")?;
            }
            rest = after;
        }
        Ok(())
    }
}

/// Display escapes the text.
impl askama::filters::HtmlSafe for Marked<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_term_is_marked_and_everything_is_escaped() {
        let check = |text, searched, expected| assert_eq!(Marked::new(text, searched).to_string(), expected);
        check("Billing bill", Some("BILL"), "<mark>Bill</mark>ing <mark>bill</mark>");
        check("<b>&\"'", Some("b"), "&lt;<mark>b</mark>&gt;&amp;&quot;&#39;");
        check("<script>", Some("<"), "<mark>&lt;</mark>script&gt;");
        check("Äpfel", Some("äp"), "<mark>Äp</mark>fel");
        check("x", None, "x");
        check("x", Some(" "), "x");
    }
}
