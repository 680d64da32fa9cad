//! Reads what a log published: checkpoint, tiles and entry bundles below its folder.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::edge::{Edge, WrongWidth};
use super::journal;
use super::merkle::{Hash, root_over};
use super::note::MAX_NOTE_LEN;
use super::proof::Subtrees;
use super::tile::{self, Content, InvalidContent, LEVELS, MAX_BUNDLE_LEN, TILE_HEIGHT, Tile, WIDTH};

/// The name of the file with the latest checkpoint.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// The name of the folder with the journal's segments.
pub(super) const JOURNAL: &str = "journal";
/// Most bytes of a journal segment: settings cannot ask for more.
pub(super) const MAX_SEGMENT_LEN: u64 = 256 * 1024 * 1024;

/// A file of the log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system says no.
    #[error("{} cannot be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is larger than it can be.
    #[error("{} is larger than it can be", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A tile or bundle that is not of the width that it should have.
    #[error("{tile} is damaged")]
    Damaged {
        /// Its path below the log's folder.
        tile: String,
        /// The cause.
        source: InvalidContent,
    },
}

impl ReadError {
    /// Whether the file is not there.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The bytes of the file at `path`, at most `limit`.
pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

/// The note in the log's checkpoint file.
pub(super) fn read_checkpoint(folder: &Path) -> Result<Vec<u8>, ReadError> {
    read(&folder.join(CHECKPOINT), MAX_NOTE_LEN as u64)
}

/// The journal's segments by first index, the oldest first; none if there is no journal.
pub(super) fn segments(folder: &Path) -> Result<Vec<(u64, PathBuf)>, ReadError> {
    let folder = folder.join(JOURNAL);
    let io = |source| ReadError::Io { path: folder.clone(), source };
    let listed = match fs::read_dir(&folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(error)),
    };
    let mut segments = Vec::new();
    for entry in listed {
        let entry = entry.map_err(io)?;
        let index = entry.file_name().to_str().and_then(journal::segment_index);
        segments.extend(index.map(|index| (index, entry.path())));
    }
    segments.sort_unstable();
    Ok(segments)
}

/// A published tile: the partial one if it is there, or the beginning of the full one, which replaces it.
fn read_tile(folder: &Path, tile: Tile, limit: u64) -> Result<(Tile, Vec<u8>), ReadError> {
    match read(&folder.join(tile.to_string()), limit) {
        Err(error) if error.is_missing() && !tile.is_full() => {
            read(&folder.join(tile.full().to_string()), limit).map(|bytes| (tile.full(), bytes)).map_err(|_| error)
        }
        other => other.map(|bytes| (tile, bytes)),
    }
}

/// The hashes of `tile`, not checked against anything.
pub(super) fn read_hashes(folder: &Path, tile: Tile) -> Result<Vec<Hash>, ReadError> {
    let (found, bytes) = read_tile(folder, tile, WIDTH * 32)?;
    let damaged = |source| ReadError::Damaged { tile: found.to_string(), source };
    let mut hashes = tile::parse_hashes(&bytes, found.width()).map_err(damaged)?;
    hashes.truncate(tile.width().into());
    Ok(hashes)
}

/// The bytes of the bundle `tile`, or of the full one that replaced it.
pub(super) fn read_bundle(folder: &Path, tile: Tile) -> Result<(Tile, Vec<u8>), ReadError> {
    read_tile(folder, tile, MAX_BUNDLE_LEN)
}

/// The hashes of a tree of one size, read from its tiles and not checked against anything. It keeps one tile of each level.
pub(super) struct Shelf<'f> {
    folder: &'f Path,
    size: u64,
    latest: [Option<(Tile, Vec<Hash>)>; LEVELS as usize],
}

impl<'f> Shelf<'f> {
    /// For a tree of `size` entries, which a checkpoint was made for.
    pub(super) fn new(folder: &'f Path, size: u64) -> Self {
        Self { folder, size, latest: Default::default() }
    }

    fn hashes(&mut self, level: u8, index: u64) -> Result<&[Hash], ReadError> {
        let tile = Tile::of_size(Content::Hashes { level }, index, self.size);
        let tile = tile.expect("only subtrees of the tree are asked for");
        let slot = &mut self.latest[usize::from(level)];
        if slot.as_ref().is_none_or(|(kept, _)| *kept != tile) {
            *slot = Some((tile, read_hashes(self.folder, tile)?));
        }
        Ok(slot.as_ref().map(|(_, hashes)| hashes.as_slice()).unwrap_or_default())
    }

    /// The rightmost tiles of a tree of `size` entries, which is not larger than this one.
    pub(super) fn edge(&mut self, size: u64) -> Result<Result<Edge, WrongWidth>, ReadError> {
        let mut levels: [Vec<Hash>; LEVELS as usize] = Default::default();
        for (level, hashes) in (0u8..).zip(&mut levels) {
            let end = size >> (u32::from(level) * TILE_HEIGHT);
            let width = usize::try_from(end % WIDTH).expect("less than 256");
            if width > 0 {
                hashes.extend(self.hashes(level, end / WIDTH)?.iter().take(width));
            }
        }
        Ok(Edge::from_partials(size, levels))
    }
}

impl Subtrees for Shelf<'_> {
    type Error = ReadError;

    fn subtree(&mut self, height: u32, index: u64) -> Result<Hash, ReadError> {
        let level = u8::try_from(height / TILE_HEIGHT).expect("heights are below 64");
        let width = 1 << (height % TILE_HEIGHT);
        let start = index << (height % TILE_HEIGHT);
        let hashes = self.hashes(level, start / WIDTH)?;
        let at = usize::try_from(start % WIDTH).expect("less than 256");
        Ok(root_over(hashes.get(at..at + width).expect("a subtree lies in one tile, and tiles have their width")))
    }
}
