//! Timestamps with millisecond precision, and clocks.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, Timelike, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Instant in UTC, with millisecond precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// 0000-01-01T00:00:00.000Z, the first instant that RFC 3339 can express.
const FIRST_MILLIS: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z, the last instant that RFC 3339 can express.
const LAST_MILLIS: i64 = 253_402_300_799_999;

/// Reason why a text is not a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTimestamp {
    /// The text is not in RFC 3339 format.
    #[error("must be an RFC 3339 time, such as 2026-11-21T09:30:00.000Z")]
    Malformed,
    /// The text is RFC 3339, but in UTC the instant is outside the years 0 to 9999.
    #[error("must lie between 0000-01-01T00:00:00.000Z and 9999-12-31T23:59:59.999Z in UTC")]
    OutOfRange,
}

impl Timestamp {
    /// The instant `millis` milliseconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// As [`from_millis`](Self::from_millis), for input from clients: only instants that RFC 3339 can
    /// express, because answers have to show them.
    ///
    /// # Errors
    /// [`InvalidTimestamp::OutOfRange`].
    pub const fn writable(millis: i64) -> Result<Self, InvalidTimestamp> {
        match millis {
            FIRST_MILLIS..=LAST_MILLIS => Ok(Self(millis)),
            _ => Err(InvalidTimestamp::OutOfRange),
        }
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Adds `millis` milliseconds. Saturates at the numeric limits.
    #[must_use]
    pub const fn saturating_add_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Converts to a calendar date and time. Instants that RFC 3339 cannot express are clamped to the nearest
    /// one it can.
    #[must_use]
    pub fn to_datetime(self) -> DateTime<Utc> {
        let millis = self.0.clamp(FIRST_MILLIS, LAST_MILLIS);
        DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// RFC 3339 in UTC with milliseconds: `2026-11-21T09:30:00.000Z`. Every answer contains several of these,
    /// so the digits are placed directly instead of through a general formatter.
    fn to_rfc3339(self) -> [u8; 24] {
        let time = self.to_datetime();
        let year = u32::try_from(time.year()).unwrap_or(0);
        let [[y1, y2], [y3, y4]] = [digits(year / 100), digits(year)];
        let [[m1, m2], [d1, d2]] = [digits(time.month()), digits(time.day())];
        let [[h1, h2], [i1, i2], [s1, s2]] =
            [digits(time.hour()), digits(time.minute()), digits(time.second())];
        let millis = time.timestamp_subsec_millis().min(999);
        let [[_, f1], [f2, f3]] = [digits(millis / 100), digits(millis)];
        [
            y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', i1, i2, b':', s1, s2, b'.', f1,
            f2, f3, b'Z',
        ]
    }

    fn with_text<T>(self, f: impl FnOnce(&str) -> T) -> T {
        // Digits and ASCII punctuation only, so always valid UTF-8.
        f(std::str::from_utf8(&self.to_rfc3339()).unwrap_or_default())
    }
}

/// The last two decimal digits of a number.
fn digits(number: u32) -> [u8; 2] {
    let number = u8::try_from(number % 100).unwrap_or(0);
    [b'0' + number / 10, b'0' + number % 10]
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.timestamp_millis())
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds: `2026-11-21T09:30:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| InvalidTimestamp::Malformed)?;
        Self::writable(time.timestamp_millis())
    }
}

/// RFC 3339 text in human-readable formats, milliseconds in binary ones.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.with_text(|text| serializer.serialize_str(text))
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

/// Source of the current time. Rules never read a clock; they are passed an instant.
pub trait Clock: Send + Sync {
    /// The current instant.
    fn now(&self) -> Timestamp;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Utc::now().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_and_print_in_utc_with_milliseconds() {
        let time: Timestamp = "2026-11-21T10:30:00.5+01:00".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-21T09:30:00.500Z");
        assert!("2026-11-21".parse::<Timestamp>().is_err());
        assert!("2026-02-30T00:00:00Z".parse::<Timestamp>().is_err());
    }

    #[test]
    fn a_time_is_written_as_the_library_does() {
        let days = (FIRST_MILLIS..=LAST_MILLIS).step_by(86_400_000 * 97 + 12_345_678);
        for millis in days.chain([-1, 0, 1, 951_782_400_000, LAST_MILLIS]) {
            let time = Timestamp::from_millis(millis);
            let expected = time.to_datetime().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            assert_eq!(time.to_string(), expected);
            assert_eq!(serde_json::to_value(time).unwrap(), serde_json::json!(expected));
        }
    }

    #[test]
    fn a_time_is_read_only_if_it_can_be_written() {
        for text in ["0000-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        }
        for text in
            ["9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59.999-00:01", "0000-01-01T00:00:00+00:01"]
        {
            assert_eq!(text.parse::<Timestamp>(), Err(InvalidTimestamp::OutOfRange), "{text}");
        }
        for (millis, nearest) in [
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
            (LAST_MILLIS + 1, "9999-12-31T23:59:59.999Z"),
            (FIRST_MILLIS - 1, "0000-01-01T00:00:00.000Z"),
            (i64::MIN, "0000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(Timestamp::from_millis(millis).to_string(), nearest);
        }
    }
}
