//! Finds out where a log stopped: its checkpoint, its tiles and its journal, which have to agree.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, InvalidCheckpoint, SignedCheckpoint};
use super::edge::Edge;
use super::journal::{self, Next};
use super::merkle::{Frontier, Hash, leaf_hash};
use super::note::{Signer, VerifierKey};
use super::proof;
use super::shelf::{self, CHECKPOINT, JOURNAL, MAX_SEGMENT_LEN, ReadError, Shelf};
use super::storage::{self, Storage};
use super::tile::WIDTH;

/// Why a log is not opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A second process, or a second `Log` of this one.
    #[error("the log is open already")]
    InUse,
    /// The signer is a witness's.
    #[error("the key is not a log's key")]
    NotALogKey,
    /// The folder, the lock or a new log could not be made.
    #[error("the log cannot be written")]
    Write(#[source] io::Error),
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is a log, but its checkpoint is gone.
    #[error("the log's checkpoint is missing")]
    NoCheckpoint,
    /// The checkpoint is not this log's.
    #[error(transparent)]
    Checkpoint(#[from] InvalidCheckpoint),
    /// Entries that the log has signed for are gone.
    #[error("the log was cut: {found} entries are left of the {signed} in its last checkpoint")]
    Truncated {
        /// In the last checkpoint.
        signed: u64,
        /// Found.
        found: u64,
    },
    /// The checkpoint is older than the journal: someone put an old one in place.
    #[error("the checkpoint says {signed} entries, but the journal begins at entry {journal}")]
    CheckpointRolledBack {
        /// In the checkpoint.
        signed: u64,
        /// The journal's first entry.
        journal: u64,
    },
    /// What is on disk is not what the log signed.
    #[error("the entries or tiles contradict the last checkpoint, of {signed} entries")]
    Contradiction {
        /// In the last checkpoint.
        signed: u64,
    },
    /// An acknowledged batch is damaged or missing.
    #[error("the journal is damaged at entry {index}")]
    JournalDamaged {
        /// The first entry of the batch.
        index: u64,
    },
}

/// An entry with its leaf hash.
pub(super) type Leaf = (Hash, Vec<u8>);

/// Where a log stopped.
pub(super) struct Recovered {
    pub(super) checkpoint: SignedCheckpoint,
    /// After the last whole batch.
    pub(super) frontier: Frontier,
    /// At the last full bundle before the checkpoint.
    pub(super) edge: Edge,
    /// The entries after `edge`.
    pub(super) pending: Vec<Leaf>,
    /// Segments by first index.
    pub(super) segments: Vec<(u64, PathBuf)>,
    /// Bytes of the last segment that are whole batches, and how many are after them.
    pub(super) kept: u64,
    pub(super) torn: u64,
}

/// Makes the log if `folder` holds none, and reads it.
pub(super) fn recover(folder: &Path, signer: &Signer, disk: &dyn Storage) -> Result<Recovered, OpenError> {
    let note = match shelf::read_checkpoint(folder) {
        Err(error) if error.is_missing() => {
            if !is_new(folder)? {
                return Err(OpenError::NoCheckpoint);
            }
            let origin = signer.verifier().name();
            let first = Checkpoint::new(origin, 0, Frontier::default().root()).sign(signer);
            let note = first.note().to_string().into_bytes();
            disk.publish(folder, &[(CHECKPOINT.to_owned(), note.clone())]).map_err(OpenError::Write)?;
            note
        }
        other => other?,
    };
    let checkpoint = SignedCheckpoint::open(&note, signer.verifier())?;
    storage::make_folder_durably(&folder.join(JOURNAL)).map_err(OpenError::Write)?;
    replay(folder, checkpoint, signer.verifier())
}

/// Whether nothing was ever appended here.
fn is_new(folder: &Path) -> Result<bool, OpenError> {
    let tiles = folder.join("tile");
    let has_tiles = fs::exists(&tiles).map_err(|source| ReadError::Io { path: tiles, source })?;
    Ok(!has_tiles && shelf::segments(folder)?.is_empty())
}

fn replay(folder: &Path, checkpoint: SignedCheckpoint, key: &VerifierKey) -> Result<Recovered, OpenError> {
    let signed = checkpoint.checkpoint().size();
    let bundled = signed - signed % WIDTH;
    let segments = shelf::segments(folder)?;
    let first = segments.first().map_or(0, |(first, _)| *first);
    if segments.is_empty() && signed > 0 {
        return Err(OpenError::Truncated { signed, found: bundled });
    }
    if first > bundled {
        return Err(OpenError::CheckpointRolledBack { signed, journal: first });
    }
    let mut shelf = Shelf::new(folder, signed);
    let contradiction = OpenError::Contradiction { signed };
    let Ok(edge) = shelf.edge(bundled)? else { return Err(contradiction) };
    let mut replay = Replay {
        root: *checkpoint.checkpoint().root(),
        signed,
        bundled: edge.frontier(),
        // What the tiles say is checked when the replay reaches the checkpoint.
        frontier: proof::frontier(&mut shelf, first)?,
        agrees: true,
        pending: Vec::new(),
    };
    replay.compare();
    let (mut kept, mut torn) = (0, 0);
    for (at, (index, path)) in segments.iter().enumerate() {
        let damaged = |replay: &Replay| Err(OpenError::JournalDamaged { index: replay.frontier.size() });
        if *index != replay.frontier.size() {
            return damaged(&replay);
        }
        let bytes = shelf::read(path, MAX_SEGMENT_LEN)?;
        let rest = replay.segment(&bytes, key)?;
        let is_last = at + 1 == segments.len();
        if !is_last && !journal::is_room(rest) {
            return damaged(&replay);
        }
        kept = (bytes.len() - rest.len()) as u64;
        torn = if journal::is_room(rest) { 0 } else { rest.len() as u64 };
    }
    let found = replay.frontier.size();
    if found < signed {
        return Err(OpenError::Truncated { signed, found });
    }
    if !replay.agrees {
        return Err(contradiction);
    }
    let Replay { frontier, pending, .. } = replay;
    Ok(Recovered { checkpoint, frontier, edge, pending, segments, kept, torn })
}

struct Replay {
    root: Hash,
    signed: u64,
    bundled: Frontier,
    frontier: Frontier,
    agrees: bool,
    pending: Vec<Leaf>,
}

impl Replay {
    /// Replays the batches of a segment; returns a torn end.
    fn segment<'s>(&mut self, bytes: &'s [u8], key: &VerifierKey) -> Result<&'s [u8], OpenError> {
        let mut rest = bytes;
        loop {
            match journal::next(rest, &self.frontier, key) {
                Next::Batch { entries, rest: after, .. } => {
                    entries.into_iter().for_each(|entry| self.push(entry));
                    rest = after;
                }
                Next::End | Next::Torn => return Ok(rest),
                Next::Corrupt => return Err(OpenError::JournalDamaged { index: self.frontier.size() }),
            }
        }
    }

    fn push(&mut self, entry: &[u8]) {
        let leaf = leaf_hash(entry);
        if self.frontier.size() >= self.bundled.size() {
            self.pending.push((leaf, entry.to_vec()));
        }
        self.frontier.push(leaf);
        self.compare();
    }

    /// Compares with the tiles and the checkpoint on the way.
    fn compare(&mut self) {
        if self.frontier.size() == self.bundled.size() {
            self.agrees &= self.frontier == self.bundled;
        }
        if self.frontier.size() == self.signed {
            self.agrees &= self.frontier.root() == self.root;
        }
    }
}
