//! Keys changed since the last commit.

use std::collections::VecDeque;

use keyledger_engine::domain::key::Key;
use keyledger_engine::value::id::KeyId;

use super::id_map::IdMap;

/// Keys in a piece.
const PIECE_LEN: usize = 1_024;
/// Keys kept in memory during a long batch, because most keys that change again do so soon. At about 700
/// bytes each, they are the memory that a long batch needs.
const KEPT_LEN: usize = 128 * PIECE_LEN;
/// Keys beyond those are written this many at a time: few enough not to block the thread that reads the log,
/// enough to be worth a commit.
const SPILL_LEN: usize = 16 * PIECE_LEN;
/// How many written keys may change again before more keys are kept.
const RETURNED_MAX: usize = SPILL_LEN / 16;
/// Maximum growth of the number of kept keys. Reading a key back and writing it twice costs more than
/// everything else that is done with it.
const GROWTH_MAX: usize = 8;

/// Keys changed since the last commit, in the order of their first change. For most keys that is the order of
/// their rows, so that rows are appended to the table. Stored in pieces, because moving a growing vector
/// would cost more than everything else that is done with its keys.
pub(super) struct Changed {
    pieces: VecDeque<Vec<Key>>,
    /// By number: keys are numbered from 0 in the order in which they are added.
    numbers: IdMap<usize>,
    /// Numbers of the first key still here and of the next key to be added.
    first: usize,
    next: usize,
    kept_len: usize,
    kept_len_max: usize,
    /// Keys read back, because they changed again, since keys were last spilled.
    returned: usize,
}

impl Default for Changed {
    fn default() -> Self {
        Self::keeping(KEPT_LEN)
    }
}

impl Changed {
    /// Creates an empty set that keeps at least `len` keys when others are spilled.
    pub(super) fn keeping(len: usize) -> Self {
        Self {
            pieces: VecDeque::new(),
            numbers: IdMap::default(),
            first: 0,
            next: 0,
            kept_len: len,
            kept_len_max: len.saturating_mul(GROWTH_MAX),
            returned: 0,
        }
    }

    /// Creates an empty set that keeps as many keys as this one did at first.
    pub(super) fn fresh(&self) -> Self {
        Self::keeping(self.kept_len_max / GROWTH_MAX)
    }

    /// Returns a key to be changed.
    pub(super) fn get_mut(&mut self, id: KeyId) -> Option<&mut Key> {
        let index = self.numbers.get(&id)?.checked_sub(self.first)?;
        self.pieces.get_mut(index / PIECE_LEN)?.get_mut(index % PIECE_LEN)
    }

    /// Adds a key that is not in the set.
    pub(super) fn add(&mut self, key: Key) {
        self.numbers.insert(key.id, self.next);
        self.next += 1;
        match self.pieces.back_mut().filter(|piece| piece.len() < PIECE_LEN) {
            Some(piece) => piece.push(key),
            None => {
                let mut piece = Vec::with_capacity(if self.pieces.is_empty() { 1 } else { PIECE_LEN });
                piece.push(key);
                self.pieces.push_back(piece);
            }
        }
    }

    /// Counts a key that is added after it was read back.
    pub(super) fn note_return(&mut self) {
        self.returned += 1;
    }

    /// Whether there are many keys that are unlikely to change again, because their first change is long ago.
    /// At the end of the batch, any key counts.
    pub(super) fn should_spill(&self, at_end: bool) -> bool {
        let kept_len = if at_end { 0 } else { self.kept_len };
        (self.next - self.first).saturating_sub(kept_len) >= SPILL_LEN
    }

    /// Removes some of those keys. If too many spilled keys have changed again, keeps more keys from now on.
    pub(super) fn take_spill(&mut self, at_end: bool) -> Vec<Key> {
        let returned = std::mem::take(&mut self.returned);
        if returned > RETURNED_MAX && self.kept_len < self.kept_len_max {
            self.kept_len *= 2;
        }
        let mut spilled = Vec::new();
        if self.should_spill(at_end) {
            spilled.reserve(SPILL_LEN);
            for piece in self.pieces.drain(..self.pieces.len().min(SPILL_LEN / PIECE_LEN)) {
                spilled.extend(piece);
            }
        }
        for key in &spilled {
            self.numbers.remove(&key.id);
        }
        self.first += spilled.len();
        spilled
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.pieces.iter().flatten()
    }

    /// Removes all keys.
    pub(super) fn clear(&mut self) {
        self.pieces.truncate(1);
        self.pieces.iter_mut().for_each(Vec::clear);
        self.numbers.clear();
        (self.first, self.next) = (0, 0);
    }
}
