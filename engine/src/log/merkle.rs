//! Merkle tree over the log's entries, as RFC 6962 §2.1 and C2SP tlog-tiles define it.

use crate::crypto::sha256::sha256;

/// SHA-256 hash of a leaf or a node.
pub type Hash = [u8; 32];

/// Number of tree levels that a tile covers. Hashes at multiples of this level are stored.
pub const TILE_HEIGHT: u8 = 8;

/// Maximum length of an entry that is hashed without allocating, in bytes. Nearly all are shorter.
const ENTRY_LEN_ON_STACK: usize = 1_023;

/// Hash of an entry as a leaf: `SHA-256(0x00 || entry)`.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut leaf = [0; 1 + ENTRY_LEN_ON_STACK];
    match leaf.get_mut(1..=entry.len()) {
        Some(copy) => {
            copy.copy_from_slice(entry);
            sha256(leaf.get(..=entry.len()).unwrap_or_default())
        }
        None => sha256(&[&[0], entry].concat()),
    }
}

/// Hash of a node over its children: `SHA-256(0x01 || left || right)`.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut node = [1; 65];
    let (_, children) = node.split_at_mut(1);
    let (first, second) = children.split_at_mut(32);
    first.copy_from_slice(left);
    second.copy_from_slice(right);
    sha256(&node)
}

/// Root of the empty tree: SHA-256 of no bytes.
#[must_use]
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// Right edge of a tree: the roots of its maximal perfect subtrees, largest first. It suffices to append
/// leaves and to compute the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// Number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the perfect subtrees, largest first.
    #[must_use]
    pub fn roots(&self) -> &[Hash] {
        &self.roots
    }

    /// Adds a leaf. Calls `completed(level, index, hash)` for every perfect subtree that the leaf completes,
    /// the leaf itself included. `level` counts from 0 at the leaves, `index` from 0 at the left.
    pub fn append(&mut self, leaf: Hash, completed: impl FnMut(u8, u64, &Hash)) {
        self.append_subtree(0, leaf, completed);
    }

    /// Adds the leaves of `next`, the right edge of a tree of its own. The number of leaves so far must be a
    /// multiple of the largest power of two in the number of leaves of `next`. Calls `completed` for the
    /// roots of `next`, and for every perfect subtree that they complete; not for subtrees inside those
    /// roots.
    pub(crate) fn extend(&mut self, next: &Self, mut completed: impl FnMut(u8, u64, &Hash)) {
        let levels = (0..64).rev().filter(|level| next.size >> level & 1 == 1);
        for (level, root) in levels.zip(&next.roots) {
            self.append_subtree(level, *root, &mut completed);
        }
    }

    /// Adds a perfect subtree of 2^`level` leaves. The number of leaves so far must be a multiple of that.
    fn append_subtree(&mut self, level: u8, root: Hash, mut completed: impl FnMut(u8, u64, &Hash)) {
        let leaves = 1 << level;
        let (mut hash, mut index, mut level) = (root, self.size >> level, level);
        completed(level, index, &hash);
        while index & 1 == 1 {
            let Some(left) = self.roots.pop() else { break };
            hash = node_hash(&left, &hash);
            index >>= 1;
            level += 1;
            completed(level, index, &hash);
        }
        self.roots.push(hash);
        self.size += leaves;
    }

    /// Root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev();
        let Some(first) = roots.next() else { return empty_root() };
        roots.fold(*first, |right, left| node_hash(left, &right))
    }

    /// Encodes the size in 8 bytes, big-endian, then the hashes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.to_be_bytes().to_vec();
        for root in &self.roots {
            bytes.extend(root);
        }
        bytes
    }

    /// Decodes [`Frontier::to_bytes`]; `None` when the bytes are malformed.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (size, hashes) = bytes.split_first_chunk::<8>()?;
        let size = u64::from_be_bytes(*size);
        let (roots, rest) = hashes.as_chunks::<32>();
        let well_formed = rest.is_empty() && roots.len() == size.count_ones() as usize;
        well_formed.then(|| Self { size, roots: roots.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 §2.1, literally.
    fn tree_hash(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node_hash(&tree_hash(&leaves[..split]), &tree_hash(&leaves[split..]))
            }
        }
    }

    #[test]
    fn a_frontier_agrees_with_the_definition() {
        let leaves: Vec<Hash> = (0_u32..600).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let mut frontier = Frontier::default();
        assert_eq!(frontier.root(), tree_hash(&[]));
        for (index, leaf) in leaves.iter().enumerate() {
            frontier.append(*leaf, |level, node, hash| {
                let (first, width) = ((node << level) as usize, 1_usize << level);
                if level <= TILE_HEIGHT {
                    assert_eq!(*hash, tree_hash(&leaves[first..first + width]));
                }
            });
            assert_eq!(frontier.root(), tree_hash(&leaves[..=index]));
            assert_eq!(Frontier::from_bytes(&frontier.to_bytes()), Some(frontier.clone()));
        }
        assert_eq!(Frontier::from_bytes(&[0; 7]), None);
        assert_eq!(Frontier::from_bytes(&[0; 40]), None);
    }

    #[test]
    fn extending_by_a_range_equals_appending_its_leaves() {
        let leaves: Vec<Hash> = (0_u32..600).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        for range_len in [1, 2, 16, 64, 256, 1_024] {
            let (mut by_leaf, mut by_ranges) = (Frontier::default(), Frontier::default());
            let (mut completed_by_leaf, mut completed_by_range) = (Vec::new(), Vec::new());
            for range in leaves.chunks(range_len) {
                let mut next = Frontier::default();
                for leaf in range {
                    next.append(*leaf, |_, _, _| {});
                    by_leaf.append(*leaf, |level, index, hash| completed_by_leaf.push((level, index, *hash)));
                }
                by_ranges.extend(&next, |level, index, hash| completed_by_range.push((level, index, *hash)));
                assert_eq!(by_ranges, by_leaf, "ranges of {range_len}");
            }
            let height = range_len.trailing_zeros() as u8;
            completed_by_leaf.retain(|(level, ..)| *level > height);
            completed_by_range.retain(|(level, ..)| *level > height);
            assert_eq!(completed_by_range, completed_by_leaf, "ranges of {range_len}");
        }
    }

    #[test]
    fn the_empty_tree_has_the_root_of_the_rfc() {
        let hex: String = empty_root().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
