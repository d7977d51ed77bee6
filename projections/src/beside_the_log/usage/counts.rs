//! Number of verifications by code.

use crate::verification::Code;

/// Number of verifications by code. Additions saturate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts([u64; Code::ALL.len()]);

impl Counts {
    /// Number of verifications with this code.
    #[must_use]
    pub fn of(&self, code: Code) -> u64 {
        self.0.get(code as usize).copied().unwrap_or_default()
    }

    /// Number of verifications with any code.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Iterates over the codes that occurred, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Code, u64)> {
        Code::ALL.into_iter().map(|code| (code, self.of(code))).filter(|(_, count)| *count > 0)
    }

    /// Adds `count` verifications with this code.
    pub fn add(&mut self, code: Code, count: u64) {
        if let Some(sum) = self.0.get_mut(code as usize) {
            *sum = sum.saturating_add(count);
        }
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (code, count) in other.iter() {
            self.add(code, count);
        }
    }

    /// Returns the stored form: the codes' stored numbers and the counts above zero.
    pub(super) fn to_stored(self) -> Vec<(u8, u64)> {
        self.iter().map(|(code, count)| (stored_number(code), count)).collect()
    }

    /// Reads what [`Counts::to_stored`] returned. Skips numbers that no code has, which a later version
    /// wrote.
    pub(super) fn from_stored(stored: &[(u8, u64)]) -> Self {
        let mut counts = Self::default();
        for (number, count) in stored {
            if let Some(code) = code_of(*number) {
                counts.add(code, *count);
            }
        }
        counts
    }
}

/// Returns the code with this stored number.
pub(super) fn code_of(number: u8) -> Option<Code> {
    Code::ALL.into_iter().find(|code| stored_number(*code) == number)
}

/// Returns the stored number of a code. It never changes.
pub(super) const fn stored_number(code: Code) -> u8 {
    match code {
        Code::Valid => 0,
        Code::Malformed => 1,
        Code::NotFound => 2,
        Code::OrganizationInactive => 3,
        Code::Revoked => 4,
        Code::Expired => 5,
        Code::WrongEnvironment => 6,
        Code::WrongOrganization => 7,
        Code::WrongApi => 8,
        Code::InsufficientScope => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_numbers_are_distinct_and_come_back() {
        let mut counts = Counts::default();
        for (index, code) in Code::ALL.into_iter().enumerate() {
            counts.add(code, index as u64 + 1);
        }
        let mut stored = counts.to_stored();
        assert_eq!(Counts::from_stored(&stored), counts);
        stored.push((250, 7));
        assert_eq!(Counts::from_stored(&stored), counts, "a later version's code is passed over");
        stored.sort_unstable();
        stored.dedup_by_key(|(number, _)| *number);
        assert_eq!(stored.len(), Code::ALL.len() + 1);
    }
}
