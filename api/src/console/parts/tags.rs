//! A list of words as tags. A long list is folded after its first tags.

use askama::Template;

#[derive(Template)]
#[template(path = "parts/tags.html")]
pub(crate) struct Tags<'a> {
    first: &'a [String],
    rest: &'a [String],
}

/// The template escapes every value.
impl askama::filters::HtmlSafe for Tags<'_> {}

impl<'a> Tags<'a> {
    /// Shows `shown` words and folds the others. Two more than `shown` are still shown, because folding them
    /// would not save space.
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
    fn long_lists_are_folded_and_all_words_are_escaped() {
        let words: Vec<String> = (0..9).map(|n| format!("<b>{n}")).collect();
        let folded = Tags::new(&words, 6).to_string();
        assert!(folded.contains("<summary>3 more</summary>") && folded.contains("8</code>"), "{folded}");
        assert!(!folded.contains("<b>"), "{folded}");
        assert!(!Tags::new(&words, 7).to_string().contains("summary"));
        assert!(Tags::new(&[], 6).to_string().contains("None"));
    }
}
