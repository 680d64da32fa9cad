//! The rightmost tiles of a growing tree, which turns appended leaves into the tiles to write.

use super::merkle::{Frontier, Hash, root_over};
use super::tile::{Content, LEVELS, TILE_HEIGHT, Tile, WIDTH};

/// A tile and its hashes.
pub(super) type Filled = (Tile, Vec<Hash>);

/// The partial tiles of each level, the leaves' first.
///
/// **Invariant:** level `l` holds the `floor(size / 256^l) mod 256` hashes of the partial tile there.
#[derive(Debug, Clone, Default)]
pub(super) struct Edge {
    size: u64,
    levels: [Vec<Hash>; LEVELS as usize],
}

/// Too few or too many hashes for the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the partial tiles do not fit the size of the tree")]
pub(super) struct WrongWidth;

impl Edge {
    /// The edge of a tree of `size` entries, from the hashes of its partial tiles.
    pub(super) fn from_partials(size: u64, levels: [Vec<Hash>; LEVELS as usize]) -> Result<Self, WrongWidth> {
        let fits = |(level, hashes): (u32, &Vec<Hash>)| hashes.len() as u64 == (size >> (level * TILE_HEIGHT)) % WIDTH;
        if !(0..).zip(&levels).all(fits) {
            return Err(WrongWidth);
        }
        Ok(Self { size, levels })
    }

    /// Entries in the tree.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf; tiles that it fills are added to `full`.
    pub(super) fn push(&mut self, leaf: Hash, full: &mut Vec<Filled>) {
        self.size += 1;
        let mut hash = leaf;
        for (level, hashes) in (0u8..).zip(&mut self.levels) {
            hashes.push(hash);
            if (hashes.len() as u64) < WIDTH {
                return;
            }
            hash = root_over(hashes);
            let index = (self.size >> (u32::from(level) * TILE_HEIGHT)) / WIDTH - 1;
            let tile = Tile::of_size(Content::Hashes { level }, index, self.size).expect("it was just filled");
            full.push((tile, std::mem::take(hashes)));
        }
    }

    /// The partial tiles that a tree of this size has.
    pub(super) fn partials(&self) -> impl Iterator<Item = (Tile, &[Hash])> {
        (0u8..).zip(&self.levels).filter(|(_, hashes)| !hashes.is_empty()).map(|(level, hashes)| {
            let index = (self.size >> (u32::from(level) * TILE_HEIGHT)) / WIDTH;
            let tile = Tile::of_size(Content::Hashes { level }, index, self.size).expect("it holds hashes");
            (tile, hashes.as_slice())
        })
    }

    /// The peaks of the tree: those of the highest level first.
    pub(super) fn frontier(&self) -> Frontier {
        let mut peaks = Vec::new();
        for hashes in self.levels.iter().rev() {
            let mut rest = hashes.as_slice();
            while !rest.is_empty() {
                let (subtree, after) = rest.split_at(1 << rest.len().ilog2());
                peaks.push(root_over(subtree));
                rest = after;
            }
        }
        Frontier::from_peaks(self.size, peaks).expect("a level holds the bits of the size that belong to it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::merkle::leaf_hash;

    #[test]
    fn seventy_thousand_leaves_give_the_tiles_of_the_specification() {
        let mut edge = Edge::default();
        let mut frontier = Frontier::default();
        let mut full = Vec::new();
        for number in 0u32..70_000 {
            let leaf = leaf_hash(&number.to_be_bytes());
            edge.push(leaf, &mut full);
            frontier.push(leaf);
            if number % 977 == 0 || number > 69_990 {
                assert_eq!(edge.frontier(), frontier, "{number}");
            }
        }
        let at_level =
            |wanted: u8| full.iter().filter(|(tile, _)| tile.content() == Content::Hashes { level: wanted }).count();
        assert_eq!([at_level(0), at_level(1), at_level(2)], [273, 1, 0]);
        assert!(full.iter().all(|(tile, hashes)| tile.is_full() && hashes.len() == 256));
        let partials: Vec<String> = edge.partials().map(|(tile, _)| tile.to_string()).collect();
        assert_eq!(partials, ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
        let again = Edge::from_partials(70_000, edge.levels.clone()).expect("fits");
        assert_eq!(again.frontier().root(), frontier.root());
        assert_eq!(Edge::from_partials(70_001, edge.levels).err(), Some(WrongWidth));
    }
}
