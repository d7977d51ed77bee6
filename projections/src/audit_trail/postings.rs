//! Where terms occur: rows of `(block, term) -> bitmap`. A row's key starts with the block, so that a growing
//! log only appends rows. A query for a term reads one row per block.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use keyledger_engine::domain::record::Record;
use keyledger_engine::value::position::Position;
use roaring::RoaringBitmap;

use super::term;
use crate::stored::store::{self, Changes, Snapshot};

/// Positions per block.
pub(super) const BLOCK_LEN: u64 = 1 << 16;

/// Returns the block of a position. Block `b` holds the positions `b * BLOCK_LEN + 1 ..= (b + 1) *
/// BLOCK_LEN`.
pub(super) fn block_of(position: Position) -> u64 {
    position.entry_index().unwrap_or(0) / BLOCK_LEN
}

fn offset_of(position: Position) -> u16 {
    (position.entry_index().unwrap_or(0) % BLOCK_LEN) as u16
}

/// Returns the position at an offset in a block.
pub(super) fn position_at(block: u64, offset: u32) -> Position {
    Position::new(block * BLOCK_LEN + u64::from(offset) + 1)
}

fn row_key(block: u64, term: &[u8]) -> Vec<u8> {
    // 2^32 blocks are 2^48 events.
    let mut key = (block as u32).to_be_bytes().to_vec();
    key.extend_from_slice(term);
    key
}

/// Returns how a person refers to the row with this key.
pub(super) fn row_name(key: &[u8]) -> String {
    match key.split_first_chunk::<4>() {
        Some((block, term)) => {
            let block = u64::from(u32::from_be_bytes(*block));
            let (first, last) = (position_at(block, 0), position_at(block, u32::from(u16::MAX)));
            format!("{}, positions {first} to {last}", term::name(term))
        }
        None => "a row without a term".into(),
    }
}

/// Returns the offsets in `block` at which all `terms` occur; `None` if there are none.
pub(super) fn find(
    rows: &Snapshot,
    block: u64,
    terms: &[Vec<u8>],
) -> Result<Option<RoaringBitmap>, store::Error> {
    let mut found: Option<RoaringBitmap> = None;
    for term in terms {
        let bitmap = rows.get(&row_key(block, term), |bytes| RoaringBitmap::deserialize_from(bytes))?;
        let Some(bitmap) = bitmap else { return Ok(None) };
        let bitmap = bitmap.map_err(|error| rows.damaged(format!("not a bitmap: {error}")))?;
        found = Some(match found {
            None => bitmap,
            Some(found) => found & bitmap,
        });
    }
    Ok(found.filter(|bitmap| !bitmap.is_empty()))
}

/// The offsets of one term in the open block.
#[derive(Default)]
struct Posting {
    /// Not run-compressed.
    offsets: RoaringBitmap,
    /// Offsets not in `offsets` yet: adding many at once, in order, takes a fraction of the time.
    new: Vec<u16>,
    changed: bool,
}

impl Posting {
    fn add(&mut self, offset: u16) {
        self.new.push(offset);
        self.changed = true;
    }

    fn merge(&mut self) {
        // They ascend, as positions do.
        let _ = self.offsets.append(self.new.drain(..).map(u32::from));
    }
}

/// By term.
type Postings = HashMap<Box<[u8]>, Posting, RandomState>;

#[derive(Default)]
struct Block {
    number: u64,
    postings: Postings,
}

impl Block {
    /// Writes the rows that changed since the last commit.
    fn write(&mut self, changes: &mut Changes<'_>) {
        let postings = self.postings.iter_mut();
        let mut changed: Vec<_> = postings.filter(|(_, posting)| posting.changed).collect();
        changed.sort_unstable_by_key(|(term, _)| *term);
        for (term, posting) in changed {
            posting.merge();
            changes.put(&row_key(self.number, term), |bytes| encode(&posting.offsets, bytes));
        }
    }
}

/// The block at the log's end. Earlier blocks never change, so nothing has to be read to extend it.
#[derive(Default)]
pub(super) struct OpenBlocks {
    open: Block,
    /// Blocks completed since the last commit.
    filled: Vec<Block>,
    term: Vec<u8>,
}

impl OpenBlocks {
    /// Loads the block that the rows end in.
    pub(super) fn load(rows: &Snapshot) -> Result<Self, store::Error> {
        let number = block_of(rows.checkpoint().position);
        let prefix = row_key(number, &[]);
        let mut open = Block { number, postings: Postings::default() };
        for row in rows.rows_from(&prefix)? {
            let (key, bytes) = row?;
            let Some(term) = key.strip_prefix(prefix.as_slice()) else {
                return Err(rows.damaged("a row belongs to a block after the checkpoint"));
            };
            let offsets = decode(&bytes).map_err(|error| rows.damaged(format!("not a bitmap: {error}")))?;
            open.postings.insert(term.into(), Posting { offsets, ..Posting::default() });
        }
        Ok(Self { open, ..Self::default() })
    }

    /// Adds a record, which must follow the previous one.
    pub(super) fn add(&mut self, record: &Record) -> Result<(), String> {
        let (number, offset) = (block_of(record.position), offset_of(record.position));
        if number != self.open.number {
            let next = Block {
                number,
                postings: Postings::with_capacity_and_hasher(
                    self.open.postings.len(),
                    RandomState::default(),
                ),
            };
            self.filled.push(std::mem::replace(&mut self.open, next));
        }
        let postings = &mut self.open.postings;
        term::each(record, &mut self.term, |term| {
            let posting = match postings.get_mut(term) {
                Some(posting) => posting,
                None => postings.entry(term.into()).or_default(),
            };
            posting.add(offset);
        });
        Ok(())
    }

    /// Writes the rows that changed since the last commit.
    pub(super) fn write(&mut self, changes: &mut Changes<'_>) {
        for block in self.filled.iter_mut().chain([&mut self.open]) {
            block.write(changes);
        }
    }

    /// Number of blocks completed since the last commit.
    pub(super) fn filled_len(&self) -> usize {
        self.filled.len()
    }

    /// Writes the rows of those blocks and drops them from memory.
    pub(super) fn write_filled(&mut self, changes: &mut Changes<'_>) {
        for mut block in self.filled.drain(..) {
            block.write(changes);
        }
    }

    /// Marks what [`OpenBlocks::write`] wrote as committed.
    pub(super) fn committed(&mut self) {
        self.filled.clear();
        for posting in self.open.postings.values_mut() {
            posting.changed = false;
        }
    }
}

/// The bytes depend only on the offsets, not on the batches they came in: a set has one representation
/// without run compression, and the shorter of the two is written.
fn encode(offsets: &RoaringBitmap, bytes: &mut Vec<u8>) {
    let mut compressed = offsets.clone();
    compressed.optimize();
    // Writing to memory does not fail.
    let _ = compressed.serialize_into(bytes);
}

/// Decodes offsets so that more can be added.
fn decode(bytes: &[u8]) -> std::io::Result<RoaringBitmap> {
    let mut offsets = RoaringBitmap::deserialize_from(bytes)?;
    offsets.remove_run_compression();
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(offsets: &RoaringBitmap) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(offsets, &mut bytes);
        bytes
    }

    #[test]
    fn bytes_do_not_tell_when_offsets_were_added() {
        // Among these are sets that are as long with runs as without, and sets whose first part is shorter
        // with runs.
        let sets: [&[u32]; 3] =
            [&[0, 1, 2, 3, 10], &[5, 6, 7, 8, 9, 10, 20, 30], &[1, 2, 3, 4, 5, 6, 7, 8, 9]];
        let long: Vec<u32> = (0..9_000).map(|n| n + n / 100).collect();
        for set in sets.into_iter().chain([long.as_slice()]) {
            let whole = encoded(&set.iter().copied().collect());
            for split in [1, 4, set.len() / 2, set.len() - 1] {
                let (first, second) = set.split_at(split);
                let mut offsets = decode(&encoded(&first.iter().copied().collect())).unwrap();
                offsets.extend(second);
                assert_eq!(encoded(&offsets), whole, "{first:?} and then {second:?}");
            }
        }
    }
}
