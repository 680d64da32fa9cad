//! The publisher: turns durable entries into tiles, bundles and signed checkpoints, beside the writer.
//!
//! **Invariant:** a checkpoint is written after all its tiles are durable, and a journal segment is removed only after all its entries are
//! in full bundles below a durable checkpoint.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::checkpoint::{Checkpoint, SignedCheckpoint};
use super::edge::Edge;
use super::note::Signer;
use super::recover::Leaf;
use super::shared::{LogError, Pending, Reply, Shared, Step};
use super::shelf::{CHECKPOINT, JOURNAL};
use super::storage::{self, Published, Storage};
use super::tile::{Content, Tile, WIDTH, hashes_to_bytes, push_entry};

/// A log that gets so many bytes between two checkpoints will need another segment.
const BUSY: usize = 64 << 10;

pub(super) struct Publisher {
    pub(super) shared: Arc<Shared>,
    pub(super) signer: Arc<Signer>,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) folder: PathBuf,
    pub(super) interval: Duration,
    /// Bytes of the journal's segments.
    pub(super) segment_len: u64,
    pub(super) edge: Edge,
    /// The entries of the bundle that is not full.
    pub(super) bundle: Vec<u8>,
}

/// What one round writes and then makes superfluous.
#[derive(Default)]
struct Round {
    files: Vec<Published>,
    superfluous: Vec<PathBuf>,
}

impl Publisher {
    /// Publishes until the log is closed or fails; then once more what is durable. Lets go of `lock` when the last file is written.
    pub(super) fn run(mut self, lock: File) {
        let ending = Ending { shared: Arc::clone(&self.shared), lock: Some(lock) };
        loop {
            let mut pending = self.shared.wait(self.interval);
            let failed = self.shared.failure().is_some();
            let ends = pending.closing || failed;
            let leaves = pending.take_leaves();
            let Pending { bytes, segments, waiting, closers, .. } = &mut *pending;
            let waiting = std::mem::take(waiting);
            let closers = if ends { std::mem::take(closers) } else { Vec::new() };
            let (segments, bytes) = (segments.clone(), std::mem::take(bytes));
            drop(pending);
            self.shared.taken();
            let published = self.publish(&leaves, &segments);
            if published.is_ok() {
                self.shared.pending().published();
            }
            if !ends && published.is_ok() {
                answer(waiting, &published);
                if bytes >= BUSY {
                    self.prepare();
                }
                continue;
            }
            storage::forget_spare(&self.folder.join(JOURNAL));
            // A failed log says so, also when what was durable before could be published.
            let outcome = self.shared.failure().cloned().map_or(published, |failure| Err(failure.into()));
            drop(ending);
            answer(waiting, &outcome);
            answer(closers, &outcome);
            return;
        }
    }

    /// Has room ready for the next segment, as long as nobody waits for a checkpoint.
    fn prepare(&self) {
        let goes_on = || {
            let pending = self.shared.pending();
            !pending.closing && pending.waiting.is_empty() && self.shared.failure().is_none()
        };
        if let Err(error) = self.storage.prepare(&self.folder.join(JOURNAL), self.segment_len, &goes_on) {
            tracing::debug!(cause = %error, "no room made for the next segment of a log");
        }
    }

    fn publish(&mut self, leaves: &[Leaf], segments: &[(u64, PathBuf)]) -> Result<SignedCheckpoint, LogError> {
        let mut round = Round::default();
        leaves.iter().for_each(|(leaf, entry)| self.push(*leaf, entry, &mut round));
        let latest = self.shared.checkpoint.borrow().clone();
        if self.edge.size() == latest.checkpoint().size() {
            return Ok(latest);
        }
        let written = self.write(&mut round);
        let signed = written.map_err(|error| LogError::Failed(self.shared.fail(Step::Publish, error)))?;
        self.shared.checkpoint.send_replace(signed.clone());
        self.tidy(round.superfluous, segments);
        Ok(signed)
    }

    fn push(&mut self, leaf: super::merkle::Hash, entry: &[u8], round: &mut Round) {
        push_entry(&mut self.bundle, entry).expect("the log refuses longer entries");
        let mut full = Vec::new();
        self.edge.push(leaf, &mut full);
        for (tile, hashes) in full {
            self.finish(tile, hashes_to_bytes(&hashes), round);
            if tile.content() == (Content::Hashes { level: 0 }) {
                let bundle = Tile::of_size(Content::Entries, tile.index(), self.edge.size());
                let bundle = bundle.expect("a bundle belongs to each tile of leaves");
                let entries = std::mem::take(&mut self.bundle);
                self.finish(bundle, entries, round);
            }
        }
    }

    fn finish(&self, tile: Tile, content: Vec<u8>, round: &mut Round) {
        round.files.push((tile.to_string(), content));
        round.superfluous.push(self.folder.join(tile.partials()));
    }

    fn write(&self, round: &mut Round) -> io::Result<SignedCheckpoint> {
        let size = self.edge.size();
        let partials = self.edge.partials().map(|(tile, hashes)| (tile.to_string(), hashes_to_bytes(hashes)));
        round.files.extend(partials);
        let bundle = Tile::of_size(Content::Entries, size / WIDTH, size);
        round.files.extend(bundle.map(|bundle| (bundle.to_string(), self.bundle.clone())));
        self.storage.publish(&self.folder, &round.files)?;
        let origin = self.signer.verifier().name();
        let signed = Checkpoint::new(origin, size, self.edge.frontier().root()).sign(&self.signer);
        self.storage.publish(&self.folder, &[(CHECKPOINT.to_owned(), signed.note().to_string().into_bytes())])?;
        Ok(signed)
    }

    /// Removes partial tiles that are full now, and segments that no recovery needs. What cannot be removed is only in the way.
    fn tidy(&self, superfluous: Vec<PathBuf>, segments: &[(u64, PathBuf)]) {
        let bundled = self.edge.size() - self.edge.size() % WIDTH;
        let spent = segments.windows(2).take_while(|pair| pair[1].0 <= bundled).map(|pair| pair[0].1.clone());
        let spent: Vec<PathBuf> = spent.collect();
        for path in superfluous.iter().chain(&spent) {
            if let Err(error) = self.storage.remove(path) {
                tracing::warn!(path = %path.display(), cause = %error, "superfluous file of a log cannot be removed");
            }
        }
        self.shared.pending().segments.retain(|(_, path)| !spent.contains(path));
    }
}

/// Releases the lock and those who wait, however the publisher ends.
struct Ending {
    shared: Arc<Shared>,
    lock: Option<File>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail(Step::Thread, io::Error::other("the publisher panicked"));
        }
        drop(self.lock.take());
        self.shared.pending().end();
        self.shared.finished.send_replace(true);
    }
}

fn answer(waiting: Vec<Reply>, outcome: &Result<SignedCheckpoint, LogError>) {
    for reply in waiting {
        // Whoever went away meanwhile misses nothing.
        let _ = reply.send(outcome.clone());
    }
}
