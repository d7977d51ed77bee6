//! Text as search compares it: case folding as Unicode defines it (The Unicode Standard, §3.13, full folding), so that
//! "STRASSE" finds "Straße" and "ΟΔΟΣ" finds "οδος". Lower case alone would miss both.

use unicase::UniCase;

/// Appends `text`, case-folded. Each character folds by itself, so that stretches of ASCII need no table.
pub(super) fn fold_into(text: &str, folded: &mut Vec<u8>) {
    for stretch in text.as_bytes().chunk_by(|one, other| one.is_ascii() == other.is_ascii()) {
        if stretch.is_ascii() {
            let start = folded.len();
            folded.extend_from_slice(stretch);
            if let Some(added) = folded.get_mut(start..) {
                added.make_ascii_lowercase();
            }
        } else if let Ok(stretch) = std::str::from_utf8(stretch) {
            // All bytes of a character outside ASCII are outside ASCII themselves, so that none is cut in two.
            folded.extend_from_slice(UniCase::unicode(stretch).to_folded_case().as_bytes());
        }
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
