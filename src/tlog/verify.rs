//! Proves offline that a log is whole, or says what was done to it.

mod diagnosis;
mod pass;

use std::path::{Path, PathBuf};

use super::checkpoint::{InvalidCheckpoint, SignedCheckpoint};
use super::journal::{self, Next};
use super::merkle::{Frontier, leaf_hash};
use super::note::VerifierKey;
use super::shelf::{self, MAX_SEGMENT_LEN, ReadError};
use super::tile::WIDTH;
use pass::Pass;

/// A log that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its latest checkpoint: every entry in it is as the log signed it.
    pub checkpoint: SignedCheckpoint,
    /// Entries in the journal after the checkpoint; the log signed their batches.
    pub after_checkpoint: u64,
    /// Bytes after them of a batch that was not acknowledged when the log stopped, or is being written right now.
    pub torn_bytes: u64,
    /// The size of the older checkpoint that it is consistent with.
    pub consistent_with: Option<u64>,
}

/// What is wrong with a log. Entries are named by index.
///
/// Which entry it is, the tiles tell as long as they still belong to the signed root. Who rewrote entries and tiles alike is found out too
/// ([`VerifyError::Rewritten`]), but where, only older checkpoints tell.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no checkpoint.
    #[error("the log has no checkpoint")]
    NoCheckpoint,
    /// The checkpoint is forged, of another log, or no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] InvalidCheckpoint),
    /// The checkpoint was replaced by an old one: the journal begins after it.
    #[error("the checkpoint says {signed} entries, but the journal begins at entry {journal}")]
    CheckpointRolledBack {
        /// In the checkpoint.
        signed: u64,
        /// The journal's first entry.
        journal: u64,
    },
    /// The log has fewer entries than it had signed for in the older checkpoint.
    #[error("the log was rolled back: {size} entries, and {older} in the older checkpoint")]
    RolledBack {
        /// Entries now.
        size: u64,
        /// Entries in the older checkpoint.
        older: u64,
    },
    /// The log signed two histories: this one, and that of the older checkpoint.
    #[error("the log has forked: its first {older} entries are not those of the older checkpoint")]
    Fork {
        /// Entries in the older checkpoint.
        older: u64,
    },
    /// An entry is not the one that was signed.
    #[error("entry {index} was altered")]
    Altered {
        /// The entry.
        index: u64,
    },
    /// An entry is missing, later ones are there.
    #[error("entry {index} was removed")]
    Removed {
        /// The entry.
        index: u64,
    },
    /// There is an entry that was not signed, between those that were.
    #[error("an entry was inserted at {index}")]
    Inserted {
        /// The place.
        index: u64,
    },
    /// An entry that was signed for another place.
    #[error("entry {index} was moved: the entry of {other} stands there")]
    Reordered {
        /// The place.
        index: u64,
        /// Where the entry that stands there belongs.
        other: u64,
    },
    /// All entries from one on are missing.
    #[error("the log was cut at entry {index}, it had {size}")]
    Truncated {
        /// The first that is missing.
        index: u64,
        /// Entries in the checkpoint.
        size: u64,
    },
    /// The entries are whole, but a tile is missing or is not theirs.
    #[error("the tile {tile} is not that of the entries")]
    TileAltered {
        /// Its path below the log's folder.
        tile: String,
    },
    /// Neither entries nor tiles are those that were signed.
    #[error("entries and tiles were rewritten, at entry {from} or after it")]
    Rewritten {
        /// The first entry that no older checkpoint vouches for.
        from: u64,
    },
    /// The journal is damaged, or does not go on from the tiles.
    #[error("the journal is damaged at entry {index}")]
    JournalDamaged {
        /// The first entry that is not as it was acknowledged.
        index: u64,
    },
}

/// Checks the whole log in `folder`: the checkpoint's signature with `key`, every entry, every tile, the journal, and that the log is a
/// continuation of `older`, a checkpoint of it that was kept elsewhere.
///
/// It only reads, keeps one bundle, one tile of each level and one segment in memory, and may run while the log is being written. A copy
/// without journal is fine.
///
/// # Errors
/// [`VerifyError`]: what is wrong, or why it could not be found out.
pub fn verify(folder: &Path, key: &VerifierKey, older: Option<&SignedCheckpoint>) -> Result<Report, VerifyError> {
    // Listed before the checkpoint is read: a log that goes on removes segments only behind its checkpoint.
    let segments = shelf::segments(folder)?;
    let note = match shelf::read_checkpoint(folder) {
        Err(error) if error.is_missing() => return Err(VerifyError::NoCheckpoint),
        other => other?,
    };
    let checkpoint = SignedCheckpoint::open(&note, key)?;
    let size = checkpoint.checkpoint().size();
    let older = older.map(SignedCheckpoint::checkpoint);
    if older.is_some_and(|older| older.origin() != checkpoint.checkpoint().origin()) {
        return Err(InvalidCheckpoint::Origin.into());
    }
    if let Some(older) = older.filter(|older| older.size() > size) {
        return Err(VerifyError::RolledBack { size, older: older.size() });
    }
    let journal = segments.first().map_or(0, |(first, _)| *first);
    if journal > size - size % WIDTH {
        return Err(VerifyError::CheckpointRolledBack { signed: size, journal });
    }
    let mut pass = Pass::new(folder, size, older.map(|older| older.size()), journal);
    pass.run()?;
    pass.judge(*checkpoint.checkpoint().root(), older.map(|older| *older.root()))?;
    let at_journal = pass.at_journal.unwrap_or_default();
    let (after_checkpoint, torn_bytes) = read_journal(&segments, at_journal, &checkpoint, key)?;
    Ok(Report { checkpoint, after_checkpoint, torn_bytes, consistent_with: older.map(|older| older.size()) })
}

/// Replays the journal; gives the entries after the checkpoint and the torn bytes after those.
fn read_journal(
    segments: &[(u64, PathBuf)],
    mut frontier: Frontier,
    checkpoint: &SignedCheckpoint,
    key: &VerifierKey,
) -> Result<(u64, u64), VerifyError> {
    let checkpoint = checkpoint.checkpoint();
    let signed = checkpoint.size();
    let mut torn = 0;
    for (index, path) in segments {
        let bytes = match shelf::read(path, MAX_SEGMENT_LEN) {
            // The log went on and has published what was in it.
            Err(error) if error.is_missing() => return Ok((0, 0)),
            other => other?,
        };
        let damaged = |at: &Frontier| Err(VerifyError::JournalDamaged { index: at.size() });
        if *index != frontier.size() || torn > 0 {
            return damaged(&frontier);
        }
        let mut rest = bytes.as_slice();
        loop {
            let (entries, more) = match journal::next(rest, &frontier, key) {
                Next::Batch { entries, rest, .. } => (entries, rest),
                Next::End | Next::Torn => break,
                Next::Corrupt => return damaged(&frontier),
            };
            for entry in entries {
                frontier.push(leaf_hash(entry));
                if frontier.size() == signed && frontier.root() != *checkpoint.root() {
                    return damaged(&frontier);
                }
            }
            rest = more;
        }
        torn = if journal::is_room(rest) { 0 } else { rest.len() as u64 };
    }
    if !segments.is_empty() && frontier.size() < signed {
        return Err(VerifyError::JournalDamaged { index: frontier.size() });
    }
    Ok((frontier.size().saturating_sub(signed), torn))
}

#[cfg(test)]
mod tests;
