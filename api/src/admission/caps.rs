//! Caps: how much an organization may hold and write, by its kind.

use std::fmt;
use std::str::FromStr;

use keyledger_engine::domain::organization::OrganizationKind;
use keyledger_projections::holdings::Kind;

const KIB: u64 = 1_024;
const MIB: u64 = 1_024 * KIB;
const GIB: u64 = 1_024 * MIB;
const UNITS: [(&str, u64); 3] = [("KiB", KIB), ("MiB", MIB), ("GiB", GIB)];
/// The word for no cap.
const UNLIMITED: &str = "unlimited";

/// The kinds of organizations, in the order of the defaults below.
const KINDS: [OrganizationKind; 4] =
    [OrganizationKind::Test, OrganizationKind::Paid, OrganizationKind::Partner, OrganizationKind::Free];

/// What is capped, with the defaults for each kind of organization.
const TABLE: [(Capped, &str, [u64; KINDS.len()]); 6] = [
    (Capped::Objects(Kind::Key), "keys", [1_000_000, 10_000_000, 10_000_000, 1_000_000]),
    (Capped::Objects(Kind::Application), "applications", [200; 4]),
    (Capped::Objects(Kind::RootKey), "root-keys", [200; 4]),
    (Capped::Objects(Kind::Webhook), "webhooks", [50; 4]),
    (Capped::Objects(Kind::PortalSession), "sessions", [10_000; 4]),
    (Capped::BytesPerDay, "bytes-per-day", [GIB, 10 * GIB, 10 * GIB, GIB]),
];

/// Something that an organization has at most so much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capped {
    /// Objects at a time.
    Objects(Kind),
    /// Bytes of events written on one day, in UTC.
    BytesPerDay,
}

impl Capped {
    /// The name in `--organization-caps`.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        TABLE.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }
}

/// The caps of all kinds of organizations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caps([[u64; KINDS.len()]; TABLE.len()]);

impl Default for Caps {
    fn default() -> Self {
        Self(TABLE.map(|row| row.2))
    }
}

impl Caps {
    /// Returns the defaults with these changes.
    #[must_use]
    pub(crate) fn with(changes: &[Cap]) -> Self {
        let mut caps = Self::default();
        for Cap { kind, capped, max } in changes {
            let row = TABLE.iter().position(|row| row.0 == *capped);
            let column = KINDS.iter().position(|it| it == kind);
            let place = row.and_then(|row| caps.0.get_mut(row)).zip(column);
            if let Some(place) = place.and_then(|(row, column)| row.get_mut(column)) {
                *place = *max;
            }
        }
        caps
    }

    /// How much an organization of this kind may have.
    #[must_use]
    pub(crate) fn max(&self, kind: OrganizationKind, capped: Capped) -> u64 {
        let row = TABLE.iter().position(|row| row.0 == capped);
        let column = KINDS.iter().position(|it| *it == kind);
        let max = row.and_then(|row| self.0.get(row)).zip(column).and_then(|(row, column)| row.get(column));
        max.copied().unwrap_or(u64::MAX)
    }
}

/// One cap as an operator writes it: `paid:keys=1000`, `free:bytes-per-day=100MiB`,
/// `partner:sessions=unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cap {
    kind: OrganizationKind,
    capped: Capped,
    max: u64,
}

/// Why a text is not a cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a kind of organization (test, paid, partner or free), a colon, what is capped (keys, \
     applications, root-keys, webhooks, sessions or bytes-per-day), an equals sign and a number, bytes also \
     with KiB, MiB or GiB, or unlimited; such as paid:keys=1000"
)]
pub(crate) struct InvalidCap;

impl FromStr for Cap {
    type Err = InvalidCap;

    fn from_str(text: &str) -> Result<Self, InvalidCap> {
        let read = || {
            let (kind, rest) = text.split_once(':')?;
            let (name, max) = rest.split_once('=')?;
            let capped = TABLE.iter().find(|row| row.1 == name)?.0;
            let max = match capped {
                _ if max == UNLIMITED => u64::MAX,
                Capped::Objects(_) => number(max)?,
                Capped::BytesPerDay => bytes(max)?,
            };
            Some(Self { kind: kind.parse().ok()?, capped, max })
        };
        read().ok_or(InvalidCap)
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}=", self.kind, self.capped.as_str())?;
        if self.max == u64::MAX { f.write_str(UNLIMITED) } else { self.max.fmt(f) }
    }
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Reads a number of bytes, with or without a unit.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let unit = UNITS.iter().find_map(|(unit, each)| Some((text.strip_suffix(unit)?, *each)));
    let (digits, each) = unit.unwrap_or((text, 1));
    number(digits)?.checked_mul(each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_read_as_they_are_written() {
        for text in ["paid:keys=1000", "free:root-keys=0", "partner:sessions=unlimited"] {
            assert_eq!(text.parse::<Cap>().unwrap().to_string(), text);
        }
        assert_eq!("test:bytes-per-day=3KiB".parse::<Cap>().unwrap().max, 3_072);
        for bad in [
            "",
            "paid",
            "paid:keys",
            "rich:keys=1",
            "paid:things=1",
            "paid:keys=-1",
            "paid:keys=1KiB",
            "paid:keys=",
        ] {
            assert_eq!(bad.parse::<Cap>(), Err(InvalidCap), "{bad}");
        }
    }

    #[test]
    fn what_is_not_set_keeps_its_default() {
        let caps = Caps::with(&["paid:keys=7".parse().unwrap(), "test:keys=unlimited".parse().unwrap()]);
        let keys = Capped::Objects(Kind::Key);
        assert_eq!(caps.max(OrganizationKind::Paid, keys), 7);
        assert_eq!(caps.max(OrganizationKind::Test, keys), u64::MAX);
        assert_eq!(caps.max(OrganizationKind::Partner, keys), 10_000_000);
        for kind in Kind::ALL {
            assert!(!Capped::Objects(kind).as_str().is_empty(), "{kind:?} has no row");
        }
    }
}
