//! Reads a published log: entries and proofs up to one checkpoint.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::checkpoint::{InvalidCheckpoint, SignedCheckpoint};
use super::merkle::Hash;
use super::note::VerifierKey;
use super::proof;
use super::shelf::{self, ReadError, Shelf};
use super::tile::{Content, Tile, WIDTH, parse_entries};

/// Why something is not read or proved.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The checkpoint is not this log's.
    #[error(transparent)]
    Checkpoint(#[from] InvalidCheckpoint),
    /// It is not covered by the checkpoint, or not yet.
    #[error("the checkpoint covers {size} entries, not {wanted}")]
    NotCovered {
        /// The index or size asked for.
        wanted: u64,
        /// Entries in the checkpoint.
        size: u64,
    },
}

/// A log as its checkpoint says it is, in a folder that may go on growing.
///
/// Entries and proofs are read from the files and not checked: a proof is for the one who checks it, and `verify` checks all.
#[derive(Debug, Clone)]
pub struct Reader {
    folder: PathBuf,
    checkpoint: SignedCheckpoint,
}

impl Reader {
    /// The log in `folder` up to its latest checkpoint, which `key` must have signed.
    ///
    /// # Errors
    /// [`ReaderError`].
    pub fn open(folder: &Path, key: &VerifierKey) -> Result<Self, ReaderError> {
        let checkpoint = SignedCheckpoint::open(&shelf::read_checkpoint(folder)?, key)?;
        Ok(Self::new(folder, checkpoint))
    }

    /// The log in `folder` up to `checkpoint`, which may be older than the one there.
    pub fn new(folder: &Path, checkpoint: SignedCheckpoint) -> Self {
        Self { folder: folder.to_owned(), checkpoint }
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    fn size(&self) -> u64 {
        self.checkpoint.checkpoint().size()
    }

    fn cover(&self, wanted: u64, covered: bool) -> Result<Shelf<'_>, ReaderError> {
        let size = self.size();
        if covered { Ok(Shelf::new(&self.folder, size)) } else { Err(ReaderError::NotCovered { wanted, size }) }
    }

    /// The entries from `index` on with their indices, to the end of the checkpoint. Keeps one bundle in memory. It ends at the first error.
    pub fn entries(&self, index: u64) -> Entries<'_> {
        Entries { reader: self, next: index, loaded: VecDeque::new() }
    }

    /// The leaf hash of the entry at `index`, to compare with a receipt.
    ///
    /// # Errors
    /// [`ReaderError`].
    pub fn leaf(&self, index: u64) -> Result<Hash, ReaderError> {
        use super::proof::Subtrees as _;
        Ok(self.cover(index, index < self.size())?.subtree(0, index)?)
    }

    /// The proof that the entry at `index` is in the checkpoint; [`proof::verify_inclusion`] checks it.
    ///
    /// # Errors
    /// [`ReaderError`].
    pub fn prove_inclusion(&self, index: u64) -> Result<Vec<Hash>, ReaderError> {
        let mut shelf = self.cover(index, index < self.size())?;
        Ok(proof::inclusion(&mut shelf, index, self.size())?)
    }

    /// The proof that the log of `old` entries is the beginning of this one; [`proof::verify_consistency`] checks it.
    ///
    /// # Errors
    /// [`ReaderError`].
    pub fn prove_consistency(&self, old: u64) -> Result<Vec<Hash>, ReaderError> {
        let mut shelf = self.cover(old, old <= self.size())?;
        Ok(proof::consistency(&mut shelf, old, self.size())?)
    }
}

/// The entries of a log with their indices.
pub struct Entries<'r> {
    reader: &'r Reader,
    next: u64,
    loaded: VecDeque<Vec<u8>>,
}

impl Entries<'_> {
    fn load(&mut self, tile: Tile) -> Result<(), ReadError> {
        let (found, bundle) = shelf::read_bundle(&self.reader.folder, tile)?;
        let damaged = |source| ReadError::Damaged { tile: found.to_string(), source };
        let entries = parse_entries(&bundle, found.width()).map_err(damaged)?;
        let skipped = usize::try_from(self.next % WIDTH).expect("less than 256");
        let entries = entries.into_iter().take(tile.width().into()).skip(skipped);
        self.loaded = entries.map(<[u8]>::to_vec).collect();
        Ok(())
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<(u64, Vec<u8>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let size = self.reader.size();
        if self.loaded.is_empty() && self.next < size {
            let tile = Tile::of_size(Content::Entries, self.next / WIDTH, size)?;
            if let Err(error) = self.load(tile) {
                self.next = u64::MAX;
                return Some(Err(error));
            }
        }
        let entry = self.loaded.pop_front()?;
        let index = self.next;
        self.next += 1;
        Some(Ok((index, entry)))
    }
}
