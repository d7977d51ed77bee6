//! The lifetimes that callers can choose by name.

use chrono::Months;

use crate::value::time::Timestamp;

/// A lifetime by name. Months are calendar months in UTC, clamped to the month's last day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExpiryPreset {
    /// Fourteen days of 24 hours.
    TwoWeeks,
    /// One calendar month.
    OneMonth,
    /// Three calendar months.
    ThreeMonths,
    /// Six calendar months.
    SixMonths,
    /// Twelve calendar months.
    OneYear,
    /// The key never expires.
    Never,
}

impl ExpiryPreset {
    const TABLE: [(Self, u8, &'static str); 6] = [
        (Self::TwoWeeks, 0, "two_weeks"),
        (Self::OneMonth, 1, "one_month"),
        (Self::ThreeMonths, 2, "three_months"),
        (Self::SixMonths, 3, "six_months"),
        (Self::OneYear, 4, "one_year"),
        (Self::Never, 5, "never"),
    ];

    /// The time at which a key issued at `now` expires; `None` for never.
    #[must_use]
    pub fn expires_at(self, now: Timestamp) -> Option<Timestamp> {
        const TWO_WEEKS_MILLIS: i64 = 14 * 24 * 60 * 60 * 1_000;
        let months = match self {
            Self::TwoWeeks => return Some(now.saturating_add_millis(TWO_WEEKS_MILLIS)),
            Self::OneMonth => 1,
            Self::ThreeMonths => 3,
            Self::SixMonths => 6,
            Self::OneYear => 12,
            Self::Never => return None,
        };
        now.to_datetime().checked_add_months(Months::new(months)).map(Timestamp::from)
    }
}

crate::value::stored_enum::stored_enum!(ExpiryPreset, "expiry preset");

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(preset: ExpiryPreset, now: &str, expected: &str) {
        let end = preset.expires_at(now.parse().unwrap()).unwrap();
        assert_eq!(end.to_string(), expected);
    }

    #[test]
    fn months_are_calendar_months_clamped_to_the_last_day() {
        check(ExpiryPreset::OneMonth, "2027-01-31T10:00:00.123Z", "2027-02-28T10:00:00.123Z");
        check(ExpiryPreset::OneMonth, "2028-01-31T10:00:00Z", "2028-02-29T10:00:00.000Z");
        check(ExpiryPreset::ThreeMonths, "2026-11-30T00:00:00Z", "2027-02-28T00:00:00.000Z");
        check(ExpiryPreset::SixMonths, "2026-08-31T00:00:00Z", "2027-02-28T00:00:00.000Z");
        check(ExpiryPreset::OneYear, "2028-02-29T00:00:00Z", "2029-02-28T00:00:00.000Z");
        check(ExpiryPreset::TwoWeeks, "2026-12-25T00:00:00Z", "2027-01-08T00:00:00.000Z");
        assert_eq!(ExpiryPreset::Never.expires_at(Timestamp::from_millis(0)), None);
    }
}
