//! Hashes and proofs of the Merkle tree at any size, computed from the stored hashes and entries (RFC 6962
//! §2.1).

use crate::log::merkle::{Frontier, Hash, TILE_HEIGHT, empty_root, leaf_hash, node_hash};
use crate::log::{Error, LogReader};
use crate::value::position::Position;

/// Returns the leaf hashes of `count` entries from index `first` on; fewer only at the head.
///
/// # Errors
/// When the log cannot be read.
pub fn leaf_hashes(log: &dyn LogReader, first: u64, count: usize) -> Result<Vec<Hash>, Error> {
    let entries = log.read_entries(Position::new(first), count)?;
    Ok(entries.iter().map(|entry| leaf_hash(entry)).collect())
}

/// Returns the root of the tree over the first `size` entries.
///
/// # Errors
/// When the log cannot be read, or has fewer entries.
pub fn root(log: &dyn LogReader, size: u64) -> Result<Hash, Error> {
    if size == 0 { Ok(empty_root()) } else { range_hash(log, 0, size) }
}

/// Returns the right edge of the tree over the first `size` entries.
///
/// # Errors
/// When the log cannot be read, or has fewer entries.
pub fn frontier(log: &dyn LogReader, size: u64) -> Result<Frontier, Error> {
    let levels = (0..64_u8).rev().filter(|level| size >> level & 1 == 1);
    // The subtree of a level begins where the larger ones end: at the bits of `size` above it.
    let roots = levels.map(|level| subtree_hash(log, level, size >> level & !1));
    let roots: Vec<Hash> = roots.collect::<Result<_, _>>()?;
    let bytes: Vec<u8> = size.to_be_bytes().into_iter().chain(roots.into_iter().flatten()).collect();
    Frontier::from_bytes(&bytes).ok_or_else(|| Error::Unavailable("a tree without an edge".into()))
}

/// Returns the hashes that lead from a leaf to the root of the tree of `size`, lowest first (RFC 6962
/// §2.1.1); `None` when the tree does not contain the leaf.
///
/// # Errors
/// When the log cannot be read, or has fewer entries.
pub fn inclusion_proof(log: &dyn LogReader, index: u64, size: u64) -> Result<Option<Vec<Hash>>, Error> {
    if index >= size {
        return Ok(None);
    }
    let (mut first, mut end) = (0, size);
    let mut proof = Vec::new();
    while end - first > 1 {
        let middle = first + split(end - first);
        if index < middle {
            proof.push(range_hash(log, middle, end)?);
            end = middle;
        } else {
            proof.push(range_hash(log, first, middle)?);
            first = middle;
        }
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Returns the hashes that prove that the tree of `size` begins with the tree of `old_size` (RFC 6962
/// §2.1.2); `None` when `old_size` is larger.
///
/// # Errors
/// When the log cannot be read, or has fewer entries.
pub fn consistency_proof(log: &dyn LogReader, old_size: u64, size: u64) -> Result<Option<Vec<Hash>>, Error> {
    if old_size > size {
        return Ok(None);
    }
    let (mut first, mut end) = (0, size);
    let mut proof = Vec::new();
    if old_size == 0 || old_size == size {
        return Ok(Some(proof));
    }
    // Until the rest is a subtree that the old tree contains completely.
    while old_size != end {
        let middle = first + split(end - first);
        if old_size <= middle {
            proof.push(range_hash(log, middle, end)?);
            end = middle;
        } else {
            proof.push(range_hash(log, first, middle)?);
            first = middle;
        }
    }
    if first > 0 {
        proof.push(range_hash(log, first, end)?);
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Computes the root that an inclusion proof leads to (RFC 9162 §2.1.3.2); `None` when the proof has the
/// wrong length.
#[must_use]
pub fn root_of_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut number, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if number & 1 == 1 || number == last {
            hash = node_hash(sibling, &hash);
            while number & 1 == 0 && number != 0 {
                number >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        number >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

/// The largest power of two below `count`, which must be at least 2.
const fn split(count: u64) -> u64 {
    1 << (63 - (count - 1).leading_zeros())
}

/// Hash over the leaves from `first` to before `end`. `first` must be where a subtree of that many leaves can
/// begin.
fn range_hash(log: &dyn LogReader, first: u64, end: u64) -> Result<Hash, Error> {
    let count = end - first;
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        return subtree_hash(log, u8::try_from(level).unwrap_or(u8::MAX), first >> level);
    }
    let middle = first + split(count);
    Ok(node_hash(&range_hash(log, first, middle)?, &range_hash(log, middle, end)?))
}

/// Hash of a perfect subtree, computed from the nearest stored level at or below it.
fn subtree_hash(log: &dyn LogReader, level: u8, index: u64) -> Result<Hash, Error> {
    let (stored_level, above) = (level / TILE_HEIGHT * TILE_HEIGHT, level % TILE_HEIGHT);
    let count = 1_usize << above;
    let mut hashes = stored_hashes(log, stored_level, index << above, count)?;
    if hashes.len() != count {
        let missing = format!("the tree has no subtree {index} of level {level}");
        return Err(Error::Unavailable(missing));
    }
    while hashes.len() > 1 {
        let pairs = hashes.as_chunks::<2>().0.iter();
        hashes = pairs.map(|[left, right]| node_hash(left, right)).collect();
    }
    hashes.pop().ok_or_else(|| Error::Unavailable("a subtree without leaves".into()))
}

/// Returns the hashes of a level that is a multiple of a tile's height.
pub(super) fn stored_hashes(
    log: &dyn LogReader,
    level: u8,
    first: u64,
    count: usize,
) -> Result<Vec<Hash>, Error> {
    if level == 0 { leaf_hashes(log, first, count) } else { log.subtree_hashes(level, first, count) }
}
