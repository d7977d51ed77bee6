//! Names as they are shown inside a sentence.

use std::borrow::Cow;

/// Longer names are cut, because toasts travel in a cookie and cookies are small.
const NAME_CHARS_MAX: usize = 60;

/// Shortens a name for use in a sentence. A name that may run from right to left is enclosed in a first
/// strong isolate (Unicode TR 9), so that it cannot reorder the words around it.
pub(crate) fn shortened(name: &str) -> String {
    let short: Cow<'_, str> = match name.char_indices().nth(NAME_CHARS_MAX) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()).into(),
        None => name.into(),
    };
    if short.chars().any(turns) { format!("\u{2068}{short}\u{2069}") } else { short.into() }
}

/// Returns whether a character belongs to a right-to-left script or is a directional formatting mark.
fn turns(char: char) -> bool {
    matches!(char, '\u{590}'..='\u{8ff}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}'
        | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_and_right_to_left_names_are_isolated() {
        assert_eq!(shortened(&"ä".repeat(61)).chars().count(), 61);
        assert_eq!(shortened("\u{202e}gnp.exe"), "\u{2068}\u{202e}gnp.exe\u{2069}");
        assert_eq!(shortened("مفتاح"), "\u{2068}مفتاح\u{2069}");
    }
}
