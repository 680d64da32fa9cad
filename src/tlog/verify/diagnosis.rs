//! Tells what was done to entries, from their hashes and those that were signed.

use std::fs;
use std::path::Path;

use super::VerifyError;
use super::pass::readable;
use crate::tlog::merkle::{Hash, leaf_hash};
use crate::tlog::shelf::{self, ReadError};
use crate::tlog::tile::{Content, Tile, WIDTH, split_entry};

/// A bundle whose entries are not those of its tile, which was signed.
pub(super) struct Difference {
    /// The bundle.
    pub(super) index: u64,
    /// The hashes of the entries in it.
    pub(super) found: Vec<Hash>,
    /// The hashes in the tile.
    pub(super) signed: Vec<Hash>,
    /// Whether the bundle holds whole entries only.
    pub(super) clean: bool,
}

impl Difference {
    /// What was done, in a log of `size` entries.
    pub(super) fn diagnose(&self, folder: &Path, size: u64) -> Result<VerifyError, ReadError> {
        let at = self.found.iter().zip(&self.signed).take_while(|(found, signed)| found == signed).count();
        let index = self.index * WIDTH + at as u64;
        let Some(signed) = self.signed.get(at) else { return Ok(VerifyError::Inserted { index }) };
        let Some(found) = self.found.get(at) else {
            // Bytes that are no whole entry, with more bundles after them, were not cut off but changed.
            let altered = !self.clean && self.index + 1 < size.div_ceil(WIDTH);
            return Ok(if altered { VerifyError::Altered { index } } else { missing(folder, index, size) });
        };
        let next_signed = match self.signed.get(at + 1) {
            Some(next) => Some(*next),
            None => leaves(folder, self.index + 1, size)?.first().copied(),
        };
        let next_found = match self.found.get(at + 1) {
            Some(next) => Some(*next),
            None => first_entry(folder, self.index + 1, size)?,
        };
        if next_signed == Some(*found) {
            let swapped = next_found == Some(*signed);
            let other = index + 1;
            return Ok(if swapped { VerifyError::Reordered { index, other } } else { VerifyError::Removed { index } });
        }
        if next_found == Some(*signed) {
            return Ok(VerifyError::Inserted { index });
        }
        let other = place_of(found, folder, size)?;
        Ok(other.map_or(VerifyError::Altered { index }, |other| VerifyError::Reordered { index, other }))
    }
}

/// The entry at `index` is not there: was it taken out, or was the log cut?
pub(super) fn missing(folder: &Path, index: u64, size: u64) -> VerifyError {
    let later = (index / WIDTH + 1..size.div_ceil(WIDTH)).filter_map(|at| Tile::of_size(Content::Entries, at, size));
    let exists = |tile: Tile| fs::exists(folder.join(tile.to_string())).unwrap_or(false);
    let goes_on = later.into_iter().any(|tile| exists(tile) || exists(tile.full()));
    if goes_on { VerifyError::Removed { index } } else { VerifyError::Truncated { index, size } }
}

fn leaves(folder: &Path, index: u64, size: u64) -> Result<Vec<Hash>, ReadError> {
    let tile = Tile::of_size(Content::Hashes { level: 0 }, index, size);
    tile.map_or(Ok(Vec::new()), |tile| shelf::read_hashes(folder, tile))
}

/// The hash of the first entry that stands in a bundle.
fn first_entry(folder: &Path, index: u64, size: u64) -> Result<Option<Hash>, ReadError> {
    let Some(tile) = Tile::of_size(Content::Entries, index, size) else { return Ok(None) };
    let bundle = readable(shelf::read_bundle(folder, tile))?;
    Ok(bundle.and_then(|(_, bundle)| split_entry(&bundle).map(|(entry, _)| leaf_hash(entry))))
}

/// Where the entry with hash `found` belongs.
fn place_of(found: &Hash, folder: &Path, size: u64) -> Result<Option<u64>, ReadError> {
    for index in 0..size.div_ceil(WIDTH) {
        let at = leaves(folder, index, size)?.iter().position(|leaf| leaf == found);
        if let Some(at) = at {
            return Ok(Some(index * WIDTH + at as u64));
        }
    }
    Ok(None)
}
