//! Case folding for search: canonical caseless matching (The Unicode Standard, §3.13, D145), that is, full
//! case folding after canonical decomposition. "STRASSE" matches "Straße", "ΟΔΟΣ" matches "οδος", and an "é"
//! matches whether it was typed as one character or as two. Lower case alone would miss all three.

use unicase::UniCase;
use unicode_normalization::UnicodeNormalization;

/// Appends the folded form of `text`. The result is composed, so that "e" does not match "é".
pub(super) fn fold_into(text: &str, folded: &mut Vec<u8>) {
    if text.is_ascii() {
        let start = folded.len();
        folded.extend_from_slice(text.as_bytes());
        if let Some(added) = folded.get_mut(start..) {
            added.make_ascii_lowercase();
        }
        return;
    }
    let decomposed: String = text.nfd().collect();
    let composed = UniCase::unicode(decomposed).to_folded_case().nfc().collect::<String>();
    folded.extend_from_slice(composed.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        fold_into(text, &mut bytes);
        bytes
    }

    #[test]
    fn different_cases_of_a_text_fold_to_the_same() {
        for (one, other) in [
            ("Production", "PRODUCTION"),
            ("Straße", "STRASSE"),
            ("ΟΔΟΣ", "οδος"),
            ("Ünïcödé", "ÜNÏCÖDÉ"),
            ("КЛЮЧ", "ключ"),
            ("Cafe\u{301}", "CAFÉ"),
            ("\u{212B}ngstro\u{308}m", "Ångström"),
            ("한국", "\u{1112}\u{1161}\u{11AB}\u{1100}\u{116E}\u{11A8}"),
        ] {
            assert_eq!(folded(one), folded(other), "{one}");
        }
        assert_ne!(folded("a"), folded("ä"));
        assert!(!String::from_utf8(folded("café")).unwrap().contains('e'));
    }
}
