//! The Merkle tree over the log's entries, as RFC 6962 §2.1 (and C2SP tlog-tiles) define it.

use crate::value::sha256::sha256;

/// A SHA-256 hash of a leaf or a node.
pub type Hash = [u8; 32];

/// A tile covers this many levels of the tree; hashes at its multiples are stored.
pub const TILE_HEIGHT: u8 = 8;

/// Entries up to this many bytes, nearly all, are hashed without asking for memory.
const ENTRY_LEN_HERE: usize = 1_023;

/// The hash of an entry as a leaf: `SHA-256(0x00 || entry)`.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut leaf = [0; 1 + ENTRY_LEN_HERE];
    match leaf.get_mut(1..=entry.len()) {
        Some(copy) => {
            copy.copy_from_slice(entry);
            sha256(leaf.get(..=entry.len()).unwrap_or_default())
        }
        None => sha256(&[&[0], entry].concat()),
    }
}

/// The hash of a node over its children: `SHA-256(0x01 || left || right)`.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut node = [1; 65];
    let (_, children) = node.split_at_mut(1);
    let (first, second) = children.split_at_mut(32);
    first.copy_from_slice(left);
    second.copy_from_slice(right);
    sha256(&node)
}

/// The root of the empty tree: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// The right edge of a tree: the roots of the perfect subtrees that make it up, largest first. It is all that is needed
/// to append, and to know the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// The number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the perfect subtrees, largest first.
    #[must_use]
    pub fn roots(&self) -> &[Hash] {
        &self.roots
    }

    /// Adds a leaf. `completed(level, index, hash)` is told of every perfect subtree that it completes: `level` counts
    /// from 0 for the leaf itself, `index` from 0 at the left.
    pub fn append(&mut self, leaf: Hash, completed: impl FnMut(u8, u64, &Hash)) {
        self.append_subtree(0, leaf, completed);
    }

    /// Adds the leaves of `next`, the right edge of a tree of their own. The number of leaves here must be a multiple of the
    /// largest power of two in the number of those. `completed` is told of every perfect subtree that they complete and
    /// that is none of the roots of `next` or inside one, and of those roots.
    pub(crate) fn extend(&mut self, next: &Self, mut completed: impl FnMut(u8, u64, &Hash)) {
        let levels = (0..64).rev().filter(|level| next.size >> level & 1 == 1);
        for (level, root) in levels.zip(&next.roots) {
            self.append_subtree(level, *root, &mut completed);
        }
    }

    /// Adds a perfect subtree with 2 to the power of `level` leaves, of which the number of leaves here is a multiple.
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

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev();
        let Some(first) = roots.next() else { return empty_root() };
        roots.fold(*first, |right, left| node_hash(left, &right))
    }

    /// The size as 8 bytes, big-endian, then the hashes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.to_be_bytes().to_vec();
        for root in &self.roots {
            bytes.extend(root);
        }
        bytes
    }

    /// Reads what [`Frontier::to_bytes`] wrote; `None` when the bytes are not that.
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

    /// RFC 6962 §2.1, word by word.
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
    fn a_frontier_is_the_same_leaf_by_leaf_and_stretch_by_stretch() {
        let leaves: Vec<Hash> = (0_u32..600).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        for stretch_len in [1, 2, 16, 64, 256, 1_024] {
            let (mut single, mut stretched) = (Frontier::default(), Frontier::default());
            let (mut singly, mut by_stretch) = (Vec::new(), Vec::new());
            for stretch in leaves.chunks(stretch_len) {
                let mut next = Frontier::default();
                for leaf in stretch {
                    next.append(*leaf, |_, _, _| {});
                    single.append(*leaf, |level, index, hash| singly.push((level, index, *hash)));
                }
                stretched.extend(&next, |level, index, hash| by_stretch.push((level, index, *hash)));
                assert_eq!(stretched, single, "stretches of {stretch_len}");
            }
            let height = stretch_len.trailing_zeros() as u8;
            singly.retain(|(level, ..)| *level > height);
            by_stretch.retain(|(level, ..)| *level > height);
            assert_eq!(by_stretch, singly, "stretches of {stretch_len}");
        }
    }

    #[test]
    fn the_empty_tree_has_the_rfcs_root() {
        let hex: String = empty_root().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
