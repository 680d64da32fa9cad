//! Merkle tree hashing (RFC 6962, section 2.1) and the tree's right edge.

use std::fmt;

use crate::crypto::{self, Digest, DigestAlgorithm};

/// Bytes of a hash.
pub const HASH_LEN: usize = 32;

/// A SHA-256 Merkle tree hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; HASH_LEN]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// `SHA-256(0x00 ‖ entry)`.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut digest = Digest::new(DigestAlgorithm::Sha256);
    digest.update(&[0]);
    digest.update(entry);
    Hash(digest.finish().try_into().expect("SHA-256 gives 32 bytes"))
}

/// `SHA-256(0x01 ‖ left ‖ right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut node = [1; 1 + 2 * HASH_LEN];
    node[1..=HASH_LEN].copy_from_slice(&left.0);
    node[1 + HASH_LEN..].copy_from_slice(&right.0);
    Hash(crypto::sha256(&node))
}

/// The root of the tree without entries: `SHA-256()`.
pub fn empty_root() -> Hash {
    Hash(crypto::sha256(&[]))
}

/// The root over `hashes` of equally high subtrees, as RFC 6962 splits them.
pub(super) fn root_over(hashes: &[Hash]) -> Hash {
    let mut edge = Frontier::default();
    hashes.iter().for_each(|hash| edge.push(*hash));
    edge.root()
}

/// The right edge of a growing tree: the roots of its complete subtrees, at most 64 of them.
///
/// **Invariant:** one peak per bit set in the size, the highest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The edge of a tree of `size` entries from its peaks; `None` if there are not as many as bits set in `size`.
    pub(super) fn from_peaks(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (peaks.len() == usize::try_from(size.count_ones()).ok()?).then_some(Self { size, peaks })
    }

    /// Entries in the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends an entry by its leaf hash.
    pub fn push(&mut self, leaf: Hash) {
        self.size += 1;
        let mut right = leaf;
        for _ in 0..self.size.trailing_zeros() {
            let left = self.peaks.pop().expect("one peak per bit set in the old size");
            right = node_hash(&left, &right);
        }
        self.peaks.push(right);
    }

    /// The root hash.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
pub(super) mod vectors {
    //! The tree that the Certificate Transparency projects test with.

    use super::Hash;

    pub(in crate::tlog) const LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];

    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    pub(in crate::tlog) fn hash(hex: &str) -> Hash {
        let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex");
        Hash(std::array::from_fn(byte))
    }

    /// The root over the first `size` leaves.
    pub(in crate::tlog) fn root(size: usize) -> Hash {
        hash(ROOTS[size])
    }

    /// MTH as RFC 6962 defines it, word for word.
    pub(in crate::tlog) fn naive_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => super::empty_root(),
            [leaf] => *leaf,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                super::node_hash(&naive_root(&leaves[..split]), &naive_root(&leaves[split..]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::vectors::{LEAVES, naive_root, root};
    use super::*;

    #[test]
    fn roots_are_those_of_the_reference_tree() {
        let mut edge = Frontier::default();
        assert_eq!(edge.root(), root(0));
        for (size, leaf) in (1..).zip(LEAVES) {
            edge.push(leaf_hash(leaf));
            assert_eq!(edge.root(), root(size), "size {size}");
            assert_eq!(edge.size(), size as u64);
        }
    }

    #[test]
    fn roots_are_those_of_the_definition() {
        let leaves: Vec<Hash> = (0u32..300).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let mut edge = Frontier::default();
        for size in 0..leaves.len() {
            assert_eq!(edge.root(), naive_root(&leaves[..size]), "size {size}");
            edge.push(leaves[size]);
        }
    }
}
