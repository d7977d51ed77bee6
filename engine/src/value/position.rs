//! Places in the log and in one aggregate's stream.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The place of an event in the log: 1 for the first, without gaps. `Position::START` stands before the first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(u64);

impl Position {
    /// Before the first event; the head of an empty log.
    pub const START: Self = Self(0);

    /// The position with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, equal to how many events the log has up to here.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position after this one; the greatest there can be has none after it and stays as it is.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The entry index in the Merkle tree (RFC 6962), which counts from 0; `None` before the first event.
    #[must_use]
    pub const fn entry_index(self) -> Option<u64> {
        self.0.checked_sub(1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Position {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// How many events a stream has; the `ETag` of what it describes. `Version::NONE` is a stream without events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(u32);

impl Version {
    /// A stream without events.
    pub const NONE: Self = Self(0);

    /// The version with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number of events.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The version after one more event.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
