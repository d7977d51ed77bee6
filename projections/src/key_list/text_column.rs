//! The texts of many rows in one buffer, so that one substring search covers them all.

use memchr::memmem::Finder;

use super::row_set::RowSet;

/// Separates the fields of a row, and rows. Texts cannot contain it, so no match spans two fields.
pub(super) const SEPARATOR: u8 = 0x1f;
/// Replaced texts may take up this much space before the column is compacted.
const DEAD_LEN_MIN: usize = 64 * 1024;

#[derive(Clone, Default)]
pub(super) struct TextColumn {
    text: Vec<u8>,
    /// Start and row of each piece of `text`, by ascending start.
    pieces: Vec<Piece>,
    /// Start and length of each row's text.
    rows: Vec<(u32, u32)>,
    dead_len: usize,
}

#[derive(Clone, Copy)]
struct Piece {
    start: u32,
    row: u16,
}

impl TextColumn {
    /// Adds the next row.
    pub(super) fn push(&mut self, text: &[u8]) {
        let row = u16::try_from(self.rows.len()).unwrap_or(u16::MAX);
        let place = self.append(row, text);
        self.rows.push(place);
    }

    /// Replaces a row's text.
    pub(super) fn set(&mut self, row: usize, text: &[u8]) {
        let Some(&(start, len)) = self.rows.get(row) else { return };
        let (start_at, old_len) = (start as usize, len as usize);
        if let Some(old) = self.text.get_mut(start_at..start_at + old_len) {
            if let Some((kept, rest)) = old.split_at_mut_checked(text.len()) {
                kept.copy_from_slice(text);
                rest.fill(SEPARATOR);
                self.dead_len += rest.len();
                self.place(row, (start, text.len() as u32));
                return;
            }
            old.fill(SEPARATOR);
            self.dead_len += old_len;
        }
        let place = self.append(u16::try_from(row).unwrap_or(u16::MAX), text);
        self.place(row, place);
        if self.dead_len > DEAD_LEN_MIN && self.dead_len > self.text.len() / 2 {
            self.remove_dead();
        }
    }

    /// A row's text.
    pub(super) fn get(&self, row: usize) -> &[u8] {
        let (start, len) = self.rows.get(row).copied().unwrap_or_default();
        self.text.get(start as usize..start as usize + len as usize).unwrap_or_default()
    }

    /// Returns the rows whose text contains the needle of `finder`.
    pub(super) fn find(&self, finder: &Finder<'_>) -> RowSet {
        let mut found = RowSet::EMPTY;
        let (mut at, mut pieces) = (0, self.pieces.iter().peekable());
        while let Some(offset) = self.text.get(at..).and_then(|rest| finder.find(rest)) {
            let hit = at + offset;
            let mut piece = None;
            while let Some(next) = pieces.next_if(|next| next.start as usize <= hit) {
                piece = Some(next);
            }
            // One hit per row is enough, so a piece is searched only up to its first hit.
            if let Some(piece) = piece {
                found.insert(piece.row as usize);
            }
            match pieces.peek() {
                Some(next) => at = next.start as usize,
                None => break,
            }
        }
        found
    }

    /// Releases the memory reserved for more rows.
    pub(super) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.pieces.shrink_to_fit();
        self.rows.shrink_to_fit();
    }

    fn append(&mut self, row: u16, text: &[u8]) -> (u32, u32) {
        // A chunk's texts stay far below 4 GiB: 2,048 rows of at most about 30 KiB.
        let start = self.text.len() as u32;
        self.text.extend_from_slice(text);
        self.pieces.push(Piece { start, row });
        (start, text.len() as u32)
    }

    fn place(&mut self, row: usize, place: (u32, u32)) {
        if let Some(slot) = self.rows.get_mut(row) {
            *slot = place;
        }
    }

    fn remove_dead(&mut self) {
        let mut compact = Self::default();
        for row in 0..self.rows.len() {
            compact.push(self.get(row));
        }
        *self = compact;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(word: &str) -> Vec<u8> {
        [&[SEPARATOR], word.as_bytes(), &[SEPARATOR]].concat()
    }

    #[test]
    fn rows_are_found_by_the_text_they_have_now() {
        let mut column = TextColumn::default();
        let mut words: Vec<String> = (0..300).map(|n| format!("w{}", n % 7)).collect();
        for word in &words {
            column.push(&text_of(word));
        }
        for round in 0..4_000_usize {
            let row = round * 31 % words.len();
            words[row] = format!("w{}{}", round % 7, "x".repeat(round % 90));
            column.set(row, &text_of(&words[row]));
        }
        assert!(column.text.len() < 3 * DEAD_LEN_MIN, "dead texts are removed");
        for needle in ["w0", "w3x", "xxxxxxxxxx", "w", "nothing"] {
            let found: Vec<usize> = column.find(&Finder::new(needle)).iter().collect();
            let expected: Vec<usize> = (0..words.len()).filter(|row| words[*row].contains(needle)).collect();
            assert_eq!(found, expected, "{needle}");
        }
    }
}
