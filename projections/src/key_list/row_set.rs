//! A set of rows of one chunk.

use super::chunk::CHUNK_LEN;

const WORDS: usize = CHUNK_LEN / 64;

#[derive(Clone, Copy)]
pub(super) struct RowSet([u64; WORDS]);

impl RowSet {
    pub(super) const EMPTY: Self = Self([0; WORDS]);

    /// Returns the rows below `len` for which `keep` holds.
    pub(super) fn filled(len: usize, mut keep: impl FnMut(usize) -> bool) -> Self {
        let mut set = Self::EMPTY;
        for (index, word) in set.0.iter_mut().enumerate() {
            let first = index * 64;
            for bit in 0..64.min(len.saturating_sub(first)) {
                *word |= u64::from(keep(first + bit)) << bit;
            }
        }
        set
    }

    pub(super) fn insert(&mut self, row: usize) {
        if let Some(word) = self.0.get_mut(row / 64) {
            *word |= 1 << (row % 64);
        }
    }

    pub(super) fn and(mut self, other: &Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word &= other;
        }
        self
    }

    pub(super) fn retain(mut self, mut keep: impl FnMut(usize) -> bool) -> Self {
        for (index, word) in self.0.iter_mut().enumerate() {
            let mut left = *word;
            while left != 0 {
                let bit = left.trailing_zeros() as usize;
                left &= left - 1;
                if !keep(index * 64 + bit) {
                    *word &= !(1 << bit);
                }
            }
        }
        self
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                if left == 0 {
                    return None;
                }
                let bit = left.trailing_zeros() as usize;
                left &= left - 1;
                Some(index * 64 + bit)
            })
        })
    }
}
