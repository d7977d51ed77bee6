//! Instants as the log records them, and where they come from.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant in UTC, to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// 0000-01-01T00:00:00.000Z, the first instant that RFC 3339 can write.
const FIRST_MILLIS: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z, the last instant that RFC 3339 can write.
const LAST_MILLIS: i64 = 253_402_300_799_999;

/// A text that names no instant of the years 0 to 9999 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTimestamp {
    /// It is not in the form of RFC 3339.
    #[error("must be an RFC 3339 time, such as 2026-11-21T09:30:00.000Z")]
    Malformed,
    /// It is, but its offset leads out of the years that RFC 3339 can write.
    #[error("must lie between 0000-01-01T00:00:00.000Z and 9999-12-31T23:59:59.999Z in UTC")]
    OutOfRange,
}

impl Timestamp {
    /// The instant this many milliseconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The same, if RFC 3339 can write the instant: what comes from outside must be answered again.
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

    /// This instant and `millis` milliseconds, stopping at the ends of time.
    #[must_use]
    pub const fn saturating_add_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// As a calendar's date and time; instants that RFC 3339 cannot write become the nearest that it can.
    #[must_use]
    pub fn to_datetime(self) -> DateTime<Utc> {
        let millis = self.0.clamp(FIRST_MILLIS, LAST_MILLIS);
        DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::UNIX_EPOCH)
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.timestamp_millis())
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds: `2026-11-21T09:30:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_datetime().to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| InvalidTimestamp::Malformed)?;
        Self::writable(time.timestamp_millis())
    }
}

/// RFC 3339 text in formats for people, milliseconds in binary ones.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
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

/// Where the time comes from. Rules never ask for it themselves; they are given an instant.
pub trait Clock: Send + Sync {
    /// The instant now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
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
