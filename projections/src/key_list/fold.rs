//! Text as search compares it: case folding as Unicode defines it (The Unicode Standard, §3.13, full folding), so that
//! "STRASSE" finds "Straße" and "ΟΔΟΣ" finds "οδος". Lower case alone would miss both.

use unicase::UniCase;

/// Appends `text`, case-folded.
pub(super) fn fold_into(text: &str, folded: &mut Vec<u8>) {
    if text.is_ascii() {
        let start = folded.len();
        folded.extend_from_slice(text.as_bytes());
        if let Some(added) = folded.get_mut(start..) {
            added.make_ascii_lowercase();
        }
    } else {
        folded.extend_from_slice(UniCase::unicode(text).to_folded_case().as_bytes());
    }
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
        ] {
            assert_eq!(folded(one), folded(other), "{one}");
        }
        assert_ne!(folded("a"), folded("ä"));
    }
}
