//! Words, each by itself; of very many the first, and the others folded away.

use askama::Template;

/// Words, each by itself.
#[derive(Template)]
#[template(path = "tags.html")]
pub(crate) struct Tags<'a> {
    first: &'a [String],
    rest: &'a [String],
}

/// It escapes what it shows.
impl askama::filters::HtmlSafe for Tags<'_> {}

impl<'a> Tags<'a> {
    /// Words, of which this many are shown at once. A few more than that are shown too: folding them away would save nothing.
    pub(crate) fn new(words: &'a [String], shown: usize) -> Self {
        let shown = if words.len() <= shown + 2 { words.len() } else { shown };
        let (first, rest) = words.split_at(shown);
        Self { first, rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_folded_away_and_all_are_escaped() {
        let words: Vec<String> = (0..9).map(|n| format!("<b>{n}")).collect();
        let folded = Tags::new(&words, 6).to_string();
        assert!(folded.contains("<summary>3 more</summary>") && folded.contains("8</code>"), "{folded}");
        assert!(!folded.contains("<b>"), "{folded}");
        assert!(!Tags::new(&words, 7).to_string().contains("summary"));
        assert!(Tags::new(&[], 6).to_string().contains("None"));
    }
}
