//! Fetches the files of a log that lies elsewhere, and keeps them in a folder that the readers of logs read.
//!
//! **Invariant:** no more is fetched than a checkpoint that the log's key signed asks for, and each file is bounded.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::tlog::checkpoint::SignedCheckpoint;
use crate::tlog::merkle::Hash;
use crate::tlog::note::{MAX_NOTE_LEN, VerifierKey};
use crate::tlog::proof::{self, Subtrees};
use crate::tlog::storage::{Disk, Storage as _};
use crate::tlog::tile::{Content, Tile, WIDTH, parse_entries};

/// Most entries of a log that is fetched whole; copy larger ones and check the copy.
const MAX_ENTRIES: u64 = 1 << 28;
/// Most bytes that are fetched at a time.
const MAX_BYTES: u64 = 64 << 30;
/// Requests under way at a time.
const PARALLEL: usize = 16;
/// Most bytes of a bundle: the format allows entries of 65,535 bytes.
const BUNDLE_LEN_MAX: usize = 256 * (2 + 0xffff);
const HASH_LEN: usize = 32;
/// Levels of tiles that a tree of 2^64 entries has.
const LEVELS: u8 = 8;

/// Where a log's files come from.
#[async_trait]
pub(super) trait Fetch: Send + Sync {
    /// The file at `path` below the log, at most `limit` bytes; `None` if there is none.
    async fn get(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>>;
}

/// Which of a log's files are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Need {
    /// All.
    Everything,
    /// The entries from this index on.
    EntriesFrom(u64),
    /// What proves that the entry at this index is in it.
    Inclusion(u64),
    /// What proves that the tree of this size is its beginning.
    Consistency(u64),
}

/// Fetches a log into a folder.
pub(super) struct Mirror {
    fetch: Box<dyn Fetch>,
    folder: PathBuf,
    key: VerifierKey,
    fetched: AtomicU64,
}

impl Mirror {
    pub(super) fn new(fetch: Box<dyn Fetch>, folder: &Path, key: VerifierKey) -> Self {
        Self { fetch, folder: folder.to_owned(), key, fetched: AtomicU64::new(0) }
    }

    /// The log's latest checkpoint, as bytes that nobody has checked.
    pub(super) async fn checkpoint(&self) -> Result<Vec<u8>> {
        let note = self.fetch.get("checkpoint", MAX_NOTE_LEN).await?;
        note.context("nothing is served there as the log's checkpoint")
    }

    /// The log's latest checkpoint that a witness cosigned, as bytes that nobody has checked; `None` if there is none.
    pub(super) async fn cosigned(&self) -> Result<Option<Vec<u8>>> {
        // A server of static files does not look at the query.
        self.fetch.get("checkpoint?cosigned=true", MAX_NOTE_LEN).await
    }

    /// Fetches the latest checkpoint and the files that `need` asks for. Files that are missing there are missing here, too.
    pub(super) async fn refresh(&self, need: Need) -> Result<()> {
        let note = self.checkpoint().await?;
        let signed = SignedCheckpoint::open(&note, &self.key)?;
        self.tiles(signed.checkpoint().size(), need).await?;
        self.put("checkpoint".to_owned(), note)
    }

    /// Fetches the files that `need` asks for in a log of `size` entries.
    pub(super) async fn tiles(&self, size: u64, need: Need) -> Result<()> {
        ensure!(size <= MAX_ENTRIES, "the log has {size} entries, too many to fetch: copy its folder and use the copy");
        self.fetched.store(0, Ordering::Relaxed);
        let tiles: Box<dyn Iterator<Item = Tile> + Send> = match need {
            Need::Everything => Box::new(everything(size)),
            Need::EntriesFrom(first) => Box::new(row(Content::Entries, first / WIDTH, size)),
            Need::Inclusion(index) if index < size => {
                let mut wanted = Wanted { size, tiles: Vec::new() };
                let Ok(_) = proof::inclusion(&mut wanted, index, size);
                let entry = Tile::of_size(Content::Entries, index / WIDTH, size);
                // The leaf itself, for comparing it with a receipt.
                let leaf = Tile::of_size(Content::Hashes { level: 0 }, index / WIDTH, size);
                Box::new(wanted.tiles.into_iter().chain(entry).chain(leaf))
            }
            Need::Consistency(old) if old <= size => {
                let mut wanted = Wanted { size, tiles: Vec::new() };
                let Ok(_) = proof::consistency(&mut wanted, old, size);
                Box::new(wanted.tiles.into_iter())
            }
            Need::Inclusion(_) | Need::Consistency(_) => Box::new(std::iter::empty()),
        };
        let fetches = stream::iter(tiles).map(|tile| self.tile(tile));
        fetches.buffer_unordered(PARALLEL).try_collect::<()>().await
    }

    async fn tile(&self, tile: Tile) -> Result<()> {
        // Nothing is ever added to a full tile, so one that is here need not be fetched again.
        if self.is_here(tile.full()) {
            return Ok(());
        }
        for tile in [tile, tile.full()] {
            if let Some(bytes) = self.fetch.get(&tile.to_string(), limit(tile)).await? {
                let total = self.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64;
                ensure!(total <= MAX_BYTES, "the log is too large to fetch: copy its folder and use the copy");
                return self.put(tile.to_string(), bytes);
            }
        }
        Ok(())
    }

    fn is_here(&self, tile: Tile) -> bool {
        let Ok(bytes) = std::fs::read(self.folder.join(tile.to_string())) else { return false };
        match tile.content() {
            Content::Hashes { .. } => bytes.len() == limit(tile),
            Content::Entries => parse_entries(&bytes, tile.width()).is_ok(),
        }
    }

    fn put(&self, path: String, bytes: Vec<u8>) -> Result<()> {
        // What a crash loses is fetched again.
        let written = Disk::assume_no_power_loss().publish(&self.folder, &[(path, bytes)]);
        written.with_context(|| format!("cannot write below {}", self.folder.display()))
    }
}

fn limit(tile: Tile) -> usize {
    match tile.content() {
        Content::Hashes { .. } => usize::from(tile.width()) * HASH_LEN,
        Content::Entries => BUNDLE_LEN_MAX,
    }
}

/// The tiles of one level from number `first` on.
fn row(content: Content, first: u64, size: u64) -> impl Iterator<Item = Tile> + Send {
    (first..).map_while(move |index| Tile::of_size(content, index, size))
}

fn everything(size: u64) -> impl Iterator<Item = Tile> + Send {
    let levels = (0..LEVELS).map(|level| Content::Hashes { level });
    levels.chain([Content::Entries]).flat_map(move |content| row(content, 0, size))
}

/// Notes which tiles a proof is made of. The hashes that it gives are none.
struct Wanted {
    size: u64,
    tiles: Vec<Tile>,
}

impl Subtrees for Wanted {
    type Error = std::convert::Infallible;

    fn subtree(&mut self, height: u32, index: u64) -> Result<Hash, Self::Error> {
        let level = u8::try_from(height / 8).unwrap_or(LEVELS);
        let start = index << (height % 8);
        let tile = Tile::of_size(Content::Hashes { level }, start / WIDTH, self.size);
        self.tiles.extend(tile.filter(|tile| !self.tiles.contains(tile)));
        Ok(Hash([0; HASH_LEN]))
    }
}

#[cfg(test)]
mod tests;
