//! A quota: how many requests in which time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A larger number of requests is no limit.
const AMOUNT_MAX: u64 = 1_000_000_000;
/// A longer time is no limit of a rate.
const SECONDS_MAX: u64 = 24 * 60 * 60;
/// The units of the time, in seconds.
const UNITS: [(char, u64); 3] = [('s', 1), ('m', 60), ('h', 3_600)];

/// So many requests at once, and as many again over each span of time. Its text is `100/5s`, or `0` for no
/// limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    amount: u64,
    seconds: u64,
}

impl Quota {
    /// No limit.
    pub(crate) const NONE: Self = Self { amount: 0, seconds: 1 };

    /// Whether there is a limit.
    #[must_use]
    pub(crate) const fn is_some(self) -> bool {
        self.amount > 0
    }

    /// The number of requests, zero for no limit.
    #[must_use]
    pub(crate) const fn amount(self) -> u64 {
        self.amount
    }

    /// The time in which they are allowed again.
    #[must_use]
    pub(crate) const fn seconds(self) -> u64 {
        self.seconds
    }

    /// The nanoseconds in which one more request is allowed.
    #[must_use]
    pub(crate) fn interval(self) -> u64 {
        let nanos = u64::try_from(Duration::from_secs(self.seconds).as_nanos()).unwrap_or(u64::MAX);
        nanos.checked_div(self.amount).unwrap_or(0).max(1)
    }
}

/// Why a text is not a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a number of requests and a time (s, m or h) of at most a day, such as 100/5s or 3000/1m, or 0 \
     for no limit"
)]
pub(crate) struct InvalidQuota;

impl FromStr for Quota {
    type Err = InvalidQuota;

    fn from_str(text: &str) -> Result<Self, InvalidQuota> {
        if text == "0" {
            return Ok(Self::NONE);
        }
        let digits = |text: &str| -> Option<u64> {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number| is_number && *number > 0)
        };
        let read = || {
            let (amount, span) = text.split_once('/')?;
            let (unit, each) = UNITS.iter().find(|(unit, _)| span.ends_with(*unit))?;
            let seconds = digits(span.strip_suffix(*unit)?)?.checked_mul(*each)?;
            let amount = digits(amount).filter(|amount| *amount <= AMOUNT_MAX)?;
            (seconds <= SECONDS_MAX).then_some(Self { amount, seconds })
        };
        read().ok_or(InvalidQuota)
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_some() {
            return f.write_str("0");
        }
        let (unit, each) =
            UNITS.iter().rev().find(|(_, each)| self.seconds.is_multiple_of(*each)).unwrap_or(&('s', 1));
        write!(f, "{}/{}{unit}", self.amount, self.seconds / each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_read_as_they_are_written() {
        for text in ["0", "100/5s", "3000/1m", "1/24h", "7/90s"] {
            assert_eq!(text.parse::<Quota>().unwrap().to_string(), text);
        }
        assert_eq!("60/60s".parse(), "60/1m".parse::<Quota>());
        for bad in
            ["", "5", "-1/1s", "1/", "/1s", "0/1s", "1/0s", "1/1d", "1/25h", "1.5/1s", "+1/1s", "1/ 1s"]
        {
            assert_eq!(bad.parse::<Quota>(), Err(InvalidQuota), "{bad}");
        }
    }
}
