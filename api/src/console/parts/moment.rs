//! Times relative to now, with the exact time on hover and for screen readers.

use std::fmt;

use keyledger_engine::value::time::Timestamp;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// An instant seen from `now`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    at: Timestamp,
    now: Timestamp,
}

impl Moment {
    pub(crate) const fn new(at: Timestamp, now: Timestamp) -> Self {
        Self { at, now }
    }

    /// Date and time: `12 Nov 2026, 14:03:07.112 UTC`.
    pub(crate) fn exact(&self) -> String {
        self.at.to_datetime().format("%-d %b %Y, %H:%M:%S%.3f UTC").to_string()
    }

    /// Date: `12 Nov 2026`.
    pub(crate) fn date(&self) -> String {
        self.at.to_datetime().format("%-d %b %Y").to_string()
    }

    /// Milliseconds until the instant, or 0 if it has passed.
    pub(crate) fn millis_left(&self) -> i64 {
        self.at.millis().saturating_sub(self.now.millis()).max(0)
    }

    pub(crate) fn is_ahead(&self) -> bool {
        self.at > self.now
    }

    /// Whether the instant is at most this many days ahead.
    pub(crate) fn is_within_days(&self, days: i64) -> bool {
        self.is_ahead() && self.at.millis().saturating_sub(self.now.millis()) <= days * DAY
    }

    /// The distance from now in words: `3 hours ago`, `in 12 days`.
    pub(crate) fn relative(&self) -> String {
        let apart = self.at.millis().saturating_sub(self.now.millis());
        let (distance, ahead) = (apart.saturating_abs(), apart > 0);
        // The past counts whole units that have gone by; the future rounds to the nearest unit.
        let whole = |unit: i64| (distance + if ahead { unit / 2 } else { 0 }) / unit;
        let (count, unit) = if distance < MINUTE {
            return if ahead { "in less than a minute" } else { "just now" }.into();
        } else if distance < HOUR {
            (whole(MINUTE), "minute")
        } else if distance < DAY {
            (whole(HOUR), "hour")
        } else if whole(DAY) == 1 {
            return if ahead { "tomorrow" } else { "yesterday" }.into();
        } else if distance < 60 * DAY {
            (whole(DAY), "day")
        } else if distance < 730 * DAY {
            (whole(30 * DAY), "month")
        } else {
            (whole(365 * DAY), "year")
        };
        let plural = if count == 1 { "" } else { "s" };
        if ahead { format!("in {count} {unit}{plural}") } else { format!("{count} {unit}{plural} ago") }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"<time datetime="{}" title="{}">{}</time>"#, self.at, self.exact(), self.relative())
    }
}

/// Display writes dates, numbers and fixed words only.
impl askama::filters::HtmlSafe for Moment {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_read_naturally() {
        let check = |apart: i64, expected: &str| {
            let now = Timestamp::from_millis(1_800_000_000_000);
            assert_eq!(Moment::new(now.saturating_add_millis(apart), now).relative(), expected);
        };
        check(0, "just now");
        check(-MINUTE, "1 minute ago");
        check(-3 * HOUR, "3 hours ago");
        check(-DAY, "yesterday");
        check(DAY + HOUR, "tomorrow");
        check(12 * DAY + 5, "in 12 days");
        check(14 * DAY - 5, "in 14 days");
        check(-59 * DAY, "59 days ago");
        check(91 * DAY, "in 3 months");
        check(-800 * DAY, "2 years ago");
    }

    #[test]
    fn the_exact_time_is_beside_it() {
        let at: Timestamp = "2026-11-12T14:03:07.112Z".parse().unwrap();
        let text = Moment::new(at, at).to_string();
        assert!(
            text.contains(r#"datetime="2026-11-12T14:03:07.112Z" title="12 Nov 2026, 14:03:07.112 UTC""#),
            "{text}"
        );
    }
}
