//! Counts as aligned lines with bars, and sizes with units.

use std::fmt::Write as _;

use crate::output::report::grouped;

/// The length of the longest bar, in characters.
const BAR_LEN: u64 = 40;

/// A title and a line per name and count, with bars if `drawn`.
pub(crate) fn section(text: &mut String, title: &str, counts: &[(String, u64)], drawn: bool) {
    let _ = writeln!(text, "\n{title}");
    if counts.is_empty() {
        text.push_str("  none\n");
    }
    let names = counts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let max = counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let numbers = grouped(max).len();
    for (name, count) in counts {
        let _ = write!(text, "  {name:<names$}  {:>numbers$}", grouped(*count));
        if drawn && *count > 0 {
            let _ = write!(text, "  {}", bar(*count, max));
        }
        text.push('\n');
    }
}

/// A bar of length `count / max`, in eighths of a character. Never empty.
fn bar(count: u64, max: u64) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = u128::from(count) * u128::from(BAR_LEN * 8) / u128::from(max.max(1));
    let eighths = usize::try_from(eighths).unwrap_or(0).max(1);
    "█".repeat(eighths / 8) + PARTS.get(eighths % 8).copied().unwrap_or_default()
}

/// A size in the largest unit that keeps it at 1 or above.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = bytes as f64;
    let mut unit = 0;
    while scaled >= 1_024.0 && unit + 1 < UNITS.len() {
        scaled /= 1_024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{bytes} {name}") } else { format!("{scaled:.1} {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_counts() {
        assert_eq!(bar(8, 8), "█".repeat(40));
        assert_eq!(bar(4, 8), "█".repeat(20));
        assert_eq!(bar(1, 64), "▋");
        assert_eq!(bar(1, u64::MAX), "▏");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(
            [0, 1_023, 1_024, 1_536, 5 << 30].map(size),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 GiB"]
        );
    }
}
