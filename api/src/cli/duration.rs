//! Durations on the command line: `30s`, `5m`, `2h`, `30d`.

use std::time::Duration;

/// No option has a use for a longer duration.
const MAX: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// Reads a whole number with its unit: `ms`, `s`, `m`, `h` or `d`.
///
/// # Errors
/// When the text is not a duration, or longer than ten years.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || {
        "must be a whole number and a unit (ms, s, m, h or d), such as 30s or 7d, at most ten years"
            .to_owned()
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis_each = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let duration = Duration::from_millis(number.checked_mul(millis_each).ok_or_else(wrong)?);
    if duration > MAX { Err(wrong()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("5m", 300), ("2h", 7_200), ("30d", 2_592_000)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "5", "s", "-1s", "1.5h", "1 s", "1w", "99999999999999999999s", "4000d"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
