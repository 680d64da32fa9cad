//! A log that is open for appending.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::checkpoint::SignedCheckpoint;
use super::journal;
use super::merkle::leaf_hash;
use super::note::{InvalidNote, Note, Signer, Use, VerifierKey};
use super::publisher::Publisher;
use super::reader::Reader;
use super::recover::{self, OpenError, Recovered};
use super::shared::{Failure, Lag, LogError, Shared};
use super::shelf::{JOURNAL, MAX_SEGMENT_LEN};
use super::storage::{self, Disk, Storage};
use super::writer::{Append, Command, Receipt, Writer};

/// Most bytes of an entry. C2SP bundles allow 65,535; what is logged here is far smaller.
pub const MAX_ENTRY_LEN: usize = 16 * 1024;
const LOCK: &str = "lock";

/// How a log works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The longest that a durable entry waits for a signed checkpoint; a busy log signs earlier.
    pub checkpoint_interval: Duration,
    /// The longest that anyone waits for an answer.
    pub deadline: Duration,
    /// Most appends that wait for the writer; further ones wait for a place.
    pub queue: usize,
    /// Bytes of the journal's segments, at most 128 MiB.
    pub segment_len: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            checkpoint_interval: Duration::from_secs(5),
            deadline: Duration::from_secs(5),
            queue: 4096,
            segment_len: 16 * 1024 * 1024,
        }
    }
}

/// A log that is open for appending, by one process at a time. It has two threads of its own, one that writes and one that publishes.
///
/// Dropped, it publishes what is durable in the background and lets go of the lock; [`Log::close`] waits for that.
pub struct Log {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    signer: Arc<Signer>,
    folder: PathBuf,
    deadline: Duration,
}

impl Log {
    /// Opens the log in `folder`, and makes one there if there is none. The signer's name is the log's origin; a log keeps its key for life.
    ///
    /// An unfinished last batch is cut off. It reads the checkpoint, the rightmost tiles and the journal, so that it takes the same time
    /// for a log of any size; `verify` reads everything. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError`], also when what is on disk contradicts the last signed checkpoint.
    pub fn open(folder: &Path, signer: Signer, settings: &Settings) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(Disk::durable()), folder, signer, settings)
    }

    /// As [`Log::open`], written through `storage`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_on(
        storage: Arc<dyn Storage>,
        folder: &Path,
        signer: Signer,
        settings: &Settings,
    ) -> Result<Self, OpenError> {
        if signer.verifier().usage() != Use::Log {
            return Err(OpenError::NotALogKey);
        }
        let lock = lock(folder)?;
        let recovered = recover::recover(folder, &signer, &*storage)?;
        Self::start(storage, folder, Arc::new(signer), settings, recovered, lock)
    }

    fn start(
        storage: Arc<dyn Storage>,
        folder: &Path,
        signer: Arc<Signer>,
        settings: &Settings,
        recovered: Recovered,
        lock: File,
    ) -> Result<Self, OpenError> {
        let Recovered { checkpoint, frontier, edge, pending, mut segments, kept, torn } = recovered;
        let journal = folder.join(JOURNAL);
        if segments.is_empty() {
            segments.push((0, journal.join(journal::segment_name(0))));
        }
        storage::forget_spare(&journal);
        let (_, current) = segments.last().expect("one was just added if there was none");
        let mut segment = storage.segment(current).map_err(OpenError::Write)?;
        if torn > 0 {
            tracing::warn!(bytes = torn, entries = frontier.size(), "unfinished batch cut off the log");
        }
        // Also room that was made and not used.
        segment.truncate(kept).map_err(OpenError::Write)?;
        let shared = Arc::new(Shared::new(checkpoint, pending, segments));
        let (commands, queue) = mpsc::channel(settings.queue.max(1));
        let log = Self {
            commands,
            shared: Arc::clone(&shared),
            signer: Arc::clone(&signer),
            folder: folder.to_owned(),
            deadline: settings.deadline,
        };
        let segment_len = settings.segment_len.min(MAX_SEGMENT_LEN / 2);
        let publisher = Publisher {
            shared: Arc::clone(&shared),
            signer: Arc::clone(&signer),
            storage: Arc::clone(&storage),
            folder: folder.to_owned(),
            interval: settings.checkpoint_interval,
            segment_len,
            edge,
            bundle: Vec::new(),
        };
        let writer = Writer { shared, signer, storage, journal, segment, length: kept, segment_len, frontier };
        // If the second thread cannot start, the first sees its channel closed and ends.
        let started = thread::Builder::new().name("tlog-write".to_owned()).spawn(move || writer.run(queue));
        started.map_err(OpenError::Write)?;
        let started = thread::Builder::new().name("tlog-publish".to_owned()).spawn(move || publisher.run(lock));
        started.map_err(OpenError::Write)?;
        Ok(log)
    }

    /// Appends `entry`, at most [`MAX_ENTRY_LEN`] bytes. It is durable when the receipt comes; the checkpoint that covers it comes later.
    ///
    /// Dropped before it returns, or after [`LogError::Deadline`], the entry may or may not be in the log.
    ///
    /// # Errors
    /// [`LogError`]. After [`LogError::Failed`] nothing is appended any more until the log is opened again.
    pub async fn append(&self, entry: Vec<u8>) -> Result<Receipt, LogError> {
        if entry.len() > MAX_ENTRY_LEN {
            return Err(LogError::TooLong { length: entry.len() });
        }
        let leaf = leaf_hash(&entry);
        self.ask(|reply| Command::Append(Append { leaf, entry, reply })).await
    }

    /// Signs and publishes a checkpoint of all that was appended before the call, without waiting for the interval.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn publish(&self) -> Result<SignedCheckpoint, LogError> {
        self.ask(Command::Publish).await
    }

    /// Finishes what was appended before, publishes it, and lets go of the lock; after that the log can be opened again, also if it had
    /// failed. Later appends give [`LogError::Closed`].
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn close(&self) -> Result<SignedCheckpoint, LogError> {
        let (reply, answer) = oneshot::channel();
        let mut finished = self.shared.finished.subscribe();
        let closed = async {
            let asked = self.commands.send(Command::Close(reply)).await;
            let outcome = match asked {
                Ok(()) => answer.await.unwrap_or_else(|_| Err(self.shared.gone())),
                Err(_) => Err(self.shared.gone()),
            };
            finished.wait_for(|finished| *finished).await.map_err(|_| LogError::Closed)?;
            outcome
        };
        timeout(self.deadline, closed).await.unwrap_or(Err(LogError::Deadline))
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, LogError>>) -> Command,
    ) -> Result<T, LogError> {
        if let Some(failure) = self.failure() {
            return Err(failure.into());
        }
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.commands.send(command(reply)).await.map_err(|_| self.shared.gone())?;
            answer.await.unwrap_or_else(|_| Err(self.shared.gone()))
        };
        timeout(self.deadline, asked).await.unwrap_or(Err(LogError::Deadline))
    }

    /// Why the log takes no more entries, if so.
    pub fn failure(&self) -> Option<Failure> {
        self.shared.failure().cloned()
    }

    /// How far the checkpoints are behind what is durable.
    pub fn lag(&self) -> Lag {
        self.shared.lag()
    }

    /// The latest signed checkpoint, and each later one.
    pub fn checkpoints(&self) -> watch::Receiver<SignedCheckpoint> {
        self.shared.checkpoint.subscribe()
    }

    /// What its checkpoints are verified with.
    pub fn verifier(&self) -> &VerifierKey {
        self.signer.verifier()
    }

    /// Signs a statement of the log's owner that is no checkpoint, with the log's key: lines of text, of which the first is a title with
    /// a space in it. A checkpoint's first line is the log's name, which has none.
    ///
    /// # Errors
    /// [`InvalidNote`] when `text` is not such lines, or too long.
    pub fn sign_statement(&self, text: &str) -> Result<Note, InvalidNote> {
        let title = text.lines().next().unwrap_or_default();
        let note = Note::signed(text.to_owned(), self.signer.sign(text));
        let read = Note::parse(note.to_string().as_bytes())?;
        if title.contains(' ') && read == note { Ok(note) } else { Err(InvalidNote::Malformed) }
    }

    /// Reads what is in its latest checkpoint.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.folder, self.shared.checkpoint.borrow().clone())
    }
}

/// Takes the lock, which the kernel releases when the process ends, however it does.
fn lock(folder: &Path) -> Result<File, OpenError> {
    storage::make_folder_durably(folder).map_err(OpenError::Write)?;
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK));
    let lock = open.map_err(OpenError::Write)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse),
        Err(TryLockError::Error(error)) => Err(OpenError::Write(error)),
    }
}

#[cfg(test)]
mod tests;
