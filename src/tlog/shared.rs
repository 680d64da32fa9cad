//! What the appenders, the writer and the publisher of a log share.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::checkpoint::SignedCheckpoint;
use super::recover::Leaf;

/// The publisher starts early when this many bytes wait for it.
const EARLY_BYTES: usize = 8 * 1024 * 1024;
/// The writer waits for the publisher when this many bytes wait for it.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// What an entry costs besides its own bytes.
const LEAF_OVERHEAD: usize = 96;

/// What the log was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Writing entries.
    Write,
    /// Waiting until entries were durable.
    Sync,
    /// Writing tiles and the checkpoint.
    Publish,
    /// One of the log's threads ended by itself.
    Thread,
}

/// Why a log takes no more entries until it is opened again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the log failed in step {step:?}")]
pub struct Failure {
    /// When.
    pub step: Step,
    /// The cause.
    pub source: Arc<io::Error>,
}

/// Why a log did not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The entry is too long.
    #[error("an entry of {length} bytes is too long for the log")]
    TooLong {
        /// Its bytes.
        length: usize,
    },
    /// The log did not answer in time; an entry may or may not be in it.
    #[error("the log did not answer in time")]
    Deadline,
    /// The log cannot be written any more.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

/// What someone who waits for a checkpoint is told.
pub(super) type Reply = oneshot::Sender<Result<SignedCheckpoint, LogError>>;

/// Durable entries that are not in tiles yet.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) leaves: Vec<Leaf>,
    pub(super) bytes: usize,
    /// Segments of the journal by first index, the one being written last.
    pub(super) segments: Vec<(u64, PathBuf)>,
    /// They wait for a checkpoint of all that is pending.
    pub(super) waiting: Vec<Reply>,
    /// No entries will come any more.
    pub(super) closing: bool,
    /// They wait for the last checkpoint.
    pub(super) closers: Vec<Reply>,
    /// The publisher is gone, nobody will be answered any more.
    ended: bool,
    /// Since when the oldest of them waits.
    since: Option<Instant>,
    /// What the publisher has taken, and since when the oldest of that waits.
    publishing: Option<(Instant, usize)>,
    /// When the last checkpoint was published, by this process.
    checkpointed: Option<Instant>,
}

/// How far the checkpoints are behind what is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    /// Durable entries that are in no checkpoint yet.
    pub entries: usize,
    /// For how long the oldest of them waits.
    pub oldest: Option<Duration>,
    /// How old the last checkpoint is, if this process made it.
    pub checkpoint_age: Option<Duration>,
}

impl Pending {
    /// Has `reply` answered after the next checkpoint.
    pub(super) fn await_checkpoint(&mut self, reply: Reply) {
        if !self.ended {
            self.waiting.push(reply);
        }
    }

    /// Has `reply` answered after the last checkpoint.
    pub(super) fn await_end(&mut self, reply: Reply) {
        if !self.ended {
            self.closers.push(reply);
        }
    }

    /// Takes what waits to be published.
    pub(super) fn take_leaves(&mut self) -> Vec<Leaf> {
        let leaves = std::mem::take(&mut self.leaves);
        self.publishing = self.since.take().map(|since| (since, leaves.len()));
        leaves
    }

    /// What was taken is in a checkpoint now.
    pub(super) fn published(&mut self) {
        if self.publishing.take().is_some() {
            self.checkpointed = Some(Instant::now());
        }
    }

    fn lag(&self) -> Lag {
        let taken = self.publishing.map_or(0, |(_, count)| count);
        let oldest = self.publishing.map(|(since, _)| since).or(self.since);
        Lag {
            entries: self.leaves.len() + taken,
            oldest: oldest.map(|since| since.elapsed()),
            checkpoint_age: self.checkpointed.map(|at| at.elapsed()),
        }
    }

    /// Lets those who wait see that nobody answers.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.waiting.clear();
        self.closers.clear();
    }
}

pub(super) struct Shared {
    pending: Mutex<Pending>,
    changed: Condvar,
    failure: OnceLock<Failure>,
    pub(super) checkpoint: watch::Sender<SignedCheckpoint>,
    /// The publisher is gone, and the lock with it.
    pub(super) finished: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(checkpoint: SignedCheckpoint, leaves: Vec<Leaf>, segments: Vec<(u64, PathBuf)>) -> Self {
        let bytes = leaves.iter().map(cost).sum();
        let since = (!leaves.is_empty()).then(Instant::now);
        Self {
            pending: Mutex::new(Pending { leaves, bytes, segments, since, ..Pending::default() }),
            changed: Condvar::new(),
            failure: OnceLock::new(),
            checkpoint: watch::Sender::new(checkpoint),
            finished: watch::Sender::new(false),
        }
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lag(&self) -> Lag {
        self.pending().lag()
    }

    pub(super) fn failure(&self) -> Option<&Failure> {
        self.failure.get()
    }

    /// Marks the log as failed; the first cause stays.
    pub(super) fn fail(&self, step: Step, source: io::Error) -> Failure {
        let failure = self.failure.get_or_init(|| Failure { step, source: Arc::new(source) }).clone();
        tracing::error!(step = ?failure.step, cause = %failure.source, "log failed, it takes no more entries");
        self.changed.notify_all();
        failure
    }

    /// What to tell someone whose request was dropped.
    pub(super) fn gone(&self) -> LogError {
        self.failure().cloned().map_or(LogError::Closed, LogError::Failed)
    }

    /// Changes what is pending and wakes the publisher if it has to act.
    pub(super) fn update(&self, change: impl FnOnce(&mut Pending)) {
        let mut pending = self.pending();
        change(&mut pending);
        if pending.closing || !pending.waiting.is_empty() || pending.bytes >= EARLY_BYTES {
            self.changed.notify_all();
        }
    }

    /// Hands durable entries to the publisher; waits while it is far behind.
    pub(super) fn hand_over(&self, leaves: impl Iterator<Item = Leaf>) {
        self.update(|pending| {
            for leaf in leaves {
                pending.since.get_or_insert_with(Instant::now);
                pending.bytes += cost(&leaf);
                pending.leaves.push(leaf);
            }
        });
        let behind = |pending: &mut Pending| pending.bytes >= MAX_BYTES && self.failure().is_none();
        drop(self.changed.wait_while(self.pending(), behind).unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until `interval` has passed or there is a reason to publish earlier.
    pub(super) fn wait(&self, interval: Duration) -> MutexGuard<'_, Pending> {
        let until = Instant::now() + interval;
        let mut pending = self.pending();
        loop {
            let early = pending.closing || !pending.waiting.is_empty() || pending.bytes >= EARLY_BYTES;
            let left = until.saturating_duration_since(Instant::now());
            if early || left.is_zero() || self.failure().is_some() {
                return pending;
            }
            pending = self.changed.wait_timeout(pending, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The publisher took what was pending.
    pub(super) fn taken(&self) {
        self.changed.notify_all();
    }
}

fn cost(leaf: &Leaf) -> usize {
    leaf.1.len() + LEAF_OVERHEAD
}
