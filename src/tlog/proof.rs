//! Inclusion and consistency proofs: made from any source of subtree hashes, and verified (RFC 6962, section 2.1; RFC 9162, section 2.1).

use super::merkle::{Frontier, Hash, empty_root, node_hash};

/// A source of hashes of complete subtrees.
pub trait Subtrees {
    /// Why a hash could not be had.
    type Error;

    /// `MTH(D[index · 2^height : (index + 1) · 2^height])`.
    ///
    /// # Errors
    /// What the source gives.
    fn subtree(&mut self, height: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// A proof does not prove what it was offered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the Merkle proof does not hold")]
pub struct InvalidProof;

/// The right edge of the first `size` entries of `source`.
///
/// # Errors
/// What `source` gives.
pub fn frontier<S: Subtrees>(source: &mut S, size: u64) -> Result<Frontier, S::Error> {
    let peaks = peaks(source, 0, size)?;
    Ok(Frontier::from_peaks(size, peaks).expect("one peak per bit set in the size"))
}

/// The roots of the complete subtrees that make up `start..end`; `start` is aligned as RFC 6962 splits trees.
fn peaks<S: Subtrees>(source: &mut S, start: u64, end: u64) -> Result<Vec<Hash>, S::Error> {
    let mut peaks = Vec::new();
    let mut at = start;
    while at < end {
        let height = (end - at).ilog2();
        peaks.push(source.subtree(height, at >> height)?);
        at += 1 << height;
    }
    Ok(peaks)
}

fn range_root<S: Subtrees>(source: &mut S, start: u64, end: u64) -> Result<Hash, S::Error> {
    let peaks = peaks(source, start, end)?;
    let joined = peaks.into_iter().rev().reduce(|right, left| node_hash(&left, &right));
    Ok(joined.unwrap_or_else(empty_root))
}

/// Where RFC 6962 splits a tree of `size` entries, at least 2: the largest power of two below it.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// `PATH(index, D[size])`, the nearest sibling first.
///
/// # Errors
/// What `source` gives. The caller makes sure that `index < size`.
pub fn inclusion<S: Subtrees>(source: &mut S, index: u64, size: u64) -> Result<Vec<Hash>, S::Error> {
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(range_root(source, middle, end)?);
            end = middle;
        } else {
            path.push(range_root(source, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// `PROOF(old, D[new])`; empty for `old` 0 or equal to `new`.
///
/// # Errors
/// What `source` gives. The caller makes sure that `old ≤ new`.
pub fn consistency<S: Subtrees>(source: &mut S, old: u64, new: u64) -> Result<Vec<Hash>, S::Error> {
    let mut path = Vec::new();
    if old == 0 || old == new {
        return Ok(path);
    }
    let (mut start, mut end) = (0, new);
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            path.push(range_root(source, middle, end)?);
            end = middle;
        } else {
            path.push(range_root(source, start, middle)?);
            start = middle;
        }
    }
    if start > 0 {
        path.push(range_root(source, start, end)?);
    }
    path.reverse();
    Ok(path)
}

/// Checks that the entry with hash `leaf` stands at `index` of the tree of `size` entries with root `root` (RFC 9162, 2.1.3.2).
///
/// # Errors
/// [`InvalidProof`].
pub fn verify_inclusion(proof: &[Hash], leaf: &Hash, index: u64, size: u64, root: &Hash) -> Result<(), InvalidProof> {
    if index >= size {
        return Err(InvalidProof);
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(InvalidProof);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(InvalidProof) }
}

/// Checks that the tree of `old` entries is the beginning of that of `new` entries, each size with its root (RFC 9162, 2.1.4.2).
/// The empty tree is the beginning of any, by an empty proof (C2SP tlog-witness).
///
/// # Errors
/// [`InvalidProof`].
pub fn verify_consistency(proof: &[Hash], old: (u64, &Hash), new: (u64, &Hash)) -> Result<(), InvalidProof> {
    let holds = match old.0 {
        0 => proof.is_empty() && *old.1 == empty_root(),
        size if size == new.0 => proof.is_empty() && old.1 == new.1,
        size if size > new.0 => false,
        _ => grows(proof, old, new).unwrap_or(false),
    };
    if holds { Ok(()) } else { Err(InvalidProof) }
}

fn grows(proof: &[Hash], old: (u64, &Hash), new: (u64, &Hash)) -> Option<bool> {
    let (seed, rest) = if old.0.is_power_of_two() { (old.1, proof) } else { proof.split_first()? };
    let (mut node, mut last) = (old.0 - 1, new.0 - 1);
    let shift = node.trailing_ones();
    node >>= shift;
    last >>= shift;
    let (mut old_hash, mut new_hash) = (*seed, *seed);
    for sibling in rest {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    Some(last == 0 && old_hash == *old.1 && new_hash == *new.1)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::tlog::merkle::leaf_hash;
    use crate::tlog::merkle::vectors::{LEAVES, hash, naive_root, root};

    struct Leaves(Vec<Hash>);

    impl Subtrees for Leaves {
        type Error = Infallible;

        fn subtree(&mut self, height: u32, index: u64) -> Result<Hash, Infallible> {
            let start = usize::try_from(index << height).expect("small");
            Ok(naive_root(&self.0[start..start + (1 << height)]))
        }
    }

    fn reference() -> Leaves {
        Leaves(LEAVES.iter().map(|leaf| leaf_hash(leaf)).collect())
    }

    #[test]
    fn proofs_are_those_of_the_reference_tree() {
        let Ok(path) = inclusion(&mut reference(), 5, 8);
        let expected = [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ];
        assert_eq!(path, expected.map(hash));
        let Ok(path) = consistency(&mut reference(), 6, 8);
        let expected = [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ];
        assert_eq!(path, expected.map(hash));
        let size = (6, &root(6));
        assert_eq!(verify_consistency(&path, size, (8, &root(8))), Ok(()));
    }

    #[test]
    fn every_proof_holds_and_no_other_does() {
        let leaves: Vec<Hash> = (0u32..40).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let mut source = Leaves(leaves.clone());
        let roots: Vec<Hash> = (0..=40).map(|size| naive_root(&leaves[..size])).collect();
        for size in 1u64..=40 {
            let whole = &roots[size as usize];
            for index in 0..size {
                let Ok(mut path) = inclusion(&mut source, index, size);
                let leaf = &leaves[index as usize];
                assert_eq!(verify_inclusion(&path, leaf, index, size, whole), Ok(()), "{index} in {size}");
                assert!(verify_inclusion(&path, leaf, index, size, &roots[size as usize - 1]).is_err());
                if index + 1 < size {
                    assert!(verify_inclusion(&path, leaf, index + 1, size, whole).is_err());
                }
                assert!(verify_inclusion(&path, leaf, size, size, whole).is_err());
                path.push(*leaf);
                assert!(verify_inclusion(&path, leaf, index, size, whole).is_err());
            }
            for old in 0..=size {
                let first = &roots[old as usize];
                let Ok(mut path) = consistency(&mut source, old, size);
                assert_eq!(verify_consistency(&path, (old, first), (size, whole)), Ok(()), "{old} to {size}");
                if old > 0 {
                    assert!(verify_consistency(&path, (old, &roots[0]), (size, whole)).is_err());
                    assert!(verify_consistency(&path, (old, first), (size, &roots[0])).is_err());
                    assert!(verify_consistency(&path, (old - 1, first), (size, whole)).is_err());
                }
                path.push(*first);
                assert!(verify_consistency(&path, (old, first), (size, whole)).is_err(), "{old} to {size}");
            }
        }
        assert!(verify_consistency(&[], (3, &roots[3]), (2, &roots[2])).is_err());
    }

    #[test]
    fn sizes_at_the_end_of_u64_are_answered() {
        let root = empty_root();
        assert!(verify_inclusion(&[root; 64], &root, u64::MAX - 1, u64::MAX, &root).is_err());
        assert!(verify_inclusion(&[root; 70], &root, 0, u64::MAX, &root).is_err());
        assert!(verify_consistency(&[root; 70], (u64::MAX - 1, &root), (u64::MAX, &root)).is_err());
        assert!(verify_consistency(&[], (1 << 63, &root), (u64::MAX, &root)).is_err());
    }
}
