//! The keys that changed since the last commit.

use std::collections::VecDeque;

use keyledger_engine::domain::key::Key;
use keyledger_engine::value::id::KeyId;

use super::id_map::IdMap;

/// Keys in a piece.
const PIECE_LEN: usize = 1_024;
/// Of keys that changed in a long batch, so many are kept, as most keys that change again do so soon. At some 700 bytes each
/// it is what a long batch needs of memory.
const KEPT_LEN: usize = 128 * PIECE_LEN;
/// So many beyond those are written together: few enough for who reads the log not to wait, enough to be worth a commit.
const SETTLED_LEN: usize = 16 * PIECE_LEN;
/// Of those, so many may change again.
const RETURNED_MAX: usize = SETTLED_LEN / 16;
/// So many times more are kept where more do: to read and to write a key once more takes longer than all else that is done
/// with it.
const GROWTH_MAX: usize = 8;

/// The keys that changed since the last commit, in the order in which they first did: for most that is the order of their
/// rows, which can be added to the end of those that are there. In pieces, as moving a large vector that grows would cost
/// more than all that is done with its keys.
pub(super) struct Changed {
    pieces: VecDeque<Vec<Key>>,
    /// By number: keys are numbered from 0 on in the order in which they stand here.
    numbers: IdMap<usize>,
    /// The number of the first key that is here, and that of the next one to come.
    first: usize,
    next: usize,
    kept_len: usize,
    kept_len_max: usize,
    /// Keys that had to be read since others were last taken out, as they changed again.
    returned: usize,
}

impl Default for Changed {
    fn default() -> Self {
        Self::keeping(KEPT_LEN)
    }
}

impl Changed {
    /// None yet; so many at least are kept when settled ones are taken out.
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

    /// None yet; what is kept is as it was here in the beginning.
    pub(super) fn beside(&self) -> Self {
        Self::keeping(self.kept_len_max / GROWTH_MAX)
    }

    /// A key that is to be changed.
    pub(super) fn get_mut(&mut self, id: KeyId) -> Option<&mut Key> {
        let index = self.numbers.get(&id)?.checked_sub(self.first)?;
        self.pieces.get_mut(index / PIECE_LEN)?.get_mut(index % PIECE_LEN)
    }

    /// Adds a key that is not here.
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

    /// Notes that a key is added that had to be read.
    pub(super) fn note_return(&mut self) {
        self.returned += 1;
    }

    /// Whether there are many keys that are likely to stay as they are, because they first changed long ago; when no more
    /// changes come, all are.
    pub(super) fn has_settled(&self, no_more: bool) -> bool {
        let kept_len = if no_more { 0 } else { self.kept_len };
        (self.next - self.first).saturating_sub(kept_len) >= SETTLED_LEN
    }

    /// Takes some of those out; or none, and keeps more from now on, if too many did not stay as they were.
    pub(super) fn take_settled(&mut self, no_more: bool) -> Vec<Key> {
        let returned = std::mem::take(&mut self.returned);
        if returned > RETURNED_MAX && self.kept_len < self.kept_len_max {
            self.kept_len *= 2;
        }
        let mut settled = Vec::new();
        if self.has_settled(no_more) {
            settled.reserve(SETTLED_LEN);
            for piece in self.pieces.drain(..self.pieces.len().min(SETTLED_LEN / PIECE_LEN)) {
                settled.extend(piece);
            }
        }
        for key in &settled {
            self.numbers.remove(&key.id);
        }
        self.first += settled.len();
        settled
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.pieces.iter().flatten()
    }

    /// Forgets them all.
    pub(super) fn clear(&mut self) {
        self.pieces.truncate(1);
        self.pieces.iter_mut().for_each(Vec::clear);
        self.numbers.clear();
        (self.first, self.next) = (0, 0);
    }
}
