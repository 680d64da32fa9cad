//! One walk over all entries and tiles of a log, and what follows from it.

use std::path::Path;

use super::VerifyError;
use super::diagnosis::{self, Difference};
use crate::tlog::edge::{Edge, Filled};
use crate::tlog::merkle::{Frontier, Hash, leaf_hash};
use crate::tlog::shelf::{self, ReadError};
use crate::tlog::tile::{Content, Tile, WIDTH, split_entry};

/// One walk over all entries and tiles.
pub(super) struct Pass<'f> {
    folder: &'f Path,
    size: u64,
    older: Option<u64>,
    journal: u64,
    /// The tree of the entries, until some are missing.
    entries: Option<Frontier>,
    /// The tree of the lowest tiles, until one is missing.
    tiles: Option<Edge>,
    first_missing: Option<u64>,
    first_difference: Option<Difference>,
    first_bad_tile: Option<Tile>,
    at_older: Option<Hash>,
    /// The tree at the journal's first entry.
    pub(super) at_journal: Option<Frontier>,
}

impl<'f> Pass<'f> {
    pub(super) fn new(folder: &'f Path, size: u64, older: Option<u64>, journal: u64) -> Self {
        let mut pass = Self {
            folder,
            size,
            older,
            journal,
            entries: Some(Frontier::default()),
            tiles: Some(Edge::default()),
            first_missing: None,
            first_difference: None,
            first_bad_tile: None,
            at_older: None,
            at_journal: None,
        };
        pass.capture();
        pass
    }

    pub(super) fn run(&mut self) -> Result<(), VerifyError> {
        for index in 0..self.size.div_ceil(WIDTH) {
            let of_size = |content| Tile::of_size(content, index, self.size).expect("below the size");
            let (leaves, bundle) = (of_size(Content::Hashes { level: 0 }), of_size(Content::Entries));
            let signed = readable(shelf::read_hashes(self.folder, leaves))?;
            let (found, clean) = self.entry_hashes(bundle)?;
            self.push_entries(&found, clean, bundle);
            match signed {
                Some(signed) => {
                    if (found != signed || !clean) && self.first_difference.is_none() {
                        self.first_difference = Some(Difference { index, found, signed: signed.clone(), clean });
                    }
                    self.push_tile(signed)?;
                }
                None => {
                    self.tiles = None;
                    self.first_bad_tile.get_or_insert(leaves);
                }
            }
        }
        if let Some(edge) = self.tiles.clone() {
            for (tile, hashes) in edge.partials() {
                self.compare_tile(tile, hashes)?;
            }
        }
        Ok(())
    }

    /// The leaf hashes of a bundle's entries, as far as there are any, and whether it holds whole entries only.
    fn entry_hashes(&self, wanted: Tile) -> Result<(Vec<Hash>, bool), VerifyError> {
        let Some((found, bundle)) = readable(shelf::read_bundle(self.folder, wanted))? else {
            return Ok((Vec::new(), true));
        };
        let limit = if found == wanted { WIDTH as usize + 1 } else { wanted.width().into() };
        let mut hashes = Vec::new();
        let mut rest = bundle.as_slice();
        while let Some((entry, after)) = split_entry(rest).filter(|_| hashes.len() < limit) {
            hashes.push(leaf_hash(entry));
            rest = after;
        }
        Ok((hashes, rest.is_empty() || found != wanted))
    }

    fn push_entries(&mut self, found: &[Hash], clean: bool, bundle: Tile) {
        let complete = found.len() == usize::from(bundle.width()) && clean;
        if !complete {
            self.entries = None;
            self.first_missing.get_or_insert(bundle.index() * WIDTH + found.len().min(bundle.width().into()) as u64);
        }
        for hash in found {
            if let Some(entries) = &mut self.entries {
                entries.push(*hash);
                self.capture();
            }
        }
    }

    /// Keeps the tree at the sizes where it is needed later.
    fn capture(&mut self) {
        let Some(entries) = &self.entries else { return };
        if Some(entries.size()) == self.older {
            self.at_older = Some(entries.root());
        }
        if entries.size() == self.journal {
            self.at_journal = Some(entries.clone());
        }
    }

    fn push_tile(&mut self, hashes: Vec<Hash>) -> Result<(), VerifyError> {
        let Some(edge) = &mut self.tiles else { return Ok(()) };
        let mut full: Vec<Filled> = Vec::new();
        hashes.into_iter().for_each(|hash| edge.push(hash, &mut full));
        full.iter().try_for_each(|(tile, hashes)| self.compare_tile(*tile, hashes))
    }

    /// Compares a tile above the lowest with what the lowest give.
    fn compare_tile(&mut self, tile: Tile, hashes: &[Hash]) -> Result<(), VerifyError> {
        let is_lowest = tile.content() == Content::Hashes { level: 0 };
        let same = || Ok::<_, VerifyError>(readable(shelf::read_hashes(self.folder, tile))?.as_deref() == Some(hashes));
        if self.first_bad_tile.is_none() && !is_lowest && !same()? {
            self.first_bad_tile = Some(tile);
        }
        Ok(())
    }

    /// Compares what was found with the root of the checkpoint, and of the older one.
    pub(super) fn judge(&self, root: Hash, older: Option<Hash>) -> Result<(), VerifyError> {
        let tiles_signed = self.tiles.as_ref().is_some_and(|edge| edge.frontier().root() == root);
        let entries_signed = self.entries.as_ref().is_some_and(|entries| entries.root() == root);
        if !entries_signed {
            return Err(self.unsigned_entries(tiles_signed, older)?);
        }
        let bad_tile = match &self.first_difference {
            Some(difference) if !tiles_signed => {
                Tile::of_size(Content::Hashes { level: 0 }, difference.index, self.size)
            }
            _ => self.first_bad_tile,
        };
        if let Some(tile) = bad_tile {
            return Err(VerifyError::TileAltered { tile: tile.to_string() });
        }
        match (self.older, older) {
            (Some(size), Some(_)) if self.at_older != older => Err(VerifyError::Fork { older: size }),
            _ => Ok(()),
        }
    }

    /// Why the entries do not give the signed root.
    fn unsigned_entries(&self, tiles_signed: bool, older: Option<Hash>) -> Result<VerifyError, VerifyError> {
        let difference = self.first_difference.as_ref().filter(|_| tiles_signed);
        if let Some(difference) = difference {
            return Ok(difference.diagnose(self.folder, self.size)?);
        }
        if let Some(index) = self.first_missing {
            return Ok(diagnosis::missing(self.folder, index, self.size));
        }
        let vouched = older.is_some() && self.at_older == older;
        Ok(VerifyError::Rewritten { from: self.older.filter(|_| vouched).unwrap_or(0) })
    }
}

/// What a file says; `None` where it is missing or damaged, which is a finding and no failure.
pub(super) fn readable<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.is_missing() => Ok(None),
        Err(ReadError::Damaged { .. } | ReadError::TooLarge { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
