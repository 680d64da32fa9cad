//! The writer: makes waiting entries durable, many with one sync (group commit).
//!
//! **Invariant:** an entry is acknowledged only after its batch was synced. After an error nothing more is written.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::journal::{self, FULL_BATCH_LEN, MAX_BATCH_ENTRIES};
use super::merkle::{Frontier, Hash};
use super::note::Signer;
use super::shared::{Failure, LogError, Reply, Shared, Step};
use super::storage::{Segment, Storage};

/// The place of an entry in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its index, from 0.
    pub index: u64,
    /// Its leaf hash (RFC 6962).
    pub leaf: Hash,
}

/// An entry that waits.
pub(super) struct Append {
    pub(super) leaf: Hash,
    pub(super) entry: Vec<u8>,
    pub(super) reply: oneshot::Sender<Result<Receipt, LogError>>,
}

/// What the writer is asked for.
pub(super) enum Command {
    Append(Append),
    /// A checkpoint of all that was appended before.
    Publish(Reply),
    /// The same, and the end.
    Close(Reply),
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) signer: Arc<Signer>,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) journal: PathBuf,
    pub(super) segment: Box<dyn Segment>,
    /// Bytes of the segment that are good.
    pub(super) length: u64,
    pub(super) segment_len: u64,
    pub(super) frontier: Frontier,
}

/// Tells the publisher that no more entries come, however the writer ends.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Step::Thread, io::Error::other("the writer panicked"));
        }
        self.0.update(|pending| pending.closing = true);
    }
}

impl Writer {
    /// Serves `commands` until the log is closed or fails. Requests that are still queued then are dropped, and those who wait see that.
    pub(super) fn run(self, mut commands: mpsc::Receiver<Command>) {
        let _ending = Ending(Arc::clone(&self.shared));
        // Lets go of the segment before the ending, after which others may open the log.
        let mut writer = self;
        while let Some(command) = commands.blocking_recv() {
            let (batch, after) = gather(command, &mut commands);
            if writer.commit(batch).is_err() {
                return;
            }
            match after {
                Some(Command::Publish(reply)) => writer.shared.update(|pending| pending.await_checkpoint(reply)),
                Some(Command::Close(reply)) => {
                    writer.shared.update(|pending| pending.await_end(reply));
                    return;
                }
                Some(Command::Append(_)) | None => {}
            }
        }
    }

    fn commit(&mut self, mut batch: Vec<Append>) -> Result<(), ()> {
        // Nobody waits for these any more.
        batch.retain(|append| !append.reply.is_closed());
        if batch.is_empty() {
            return Ok(());
        }
        let failed = self.shared.failure().cloned();
        let written = failed.map_or_else(|| self.write(&batch), Err);
        if let Err(failure) = written {
            batch.into_iter().for_each(|append| drop(append.reply.send(Err(failure.clone().into()))));
            return Err(());
        }
        let first = self.frontier.size();
        batch.iter().for_each(|append| self.frontier.push(append.leaf));
        let acknowledged = (first..).zip(batch).map(|(index, append)| {
            let receipt = Receipt { index, leaf: append.leaf };
            // Whoever went away meanwhile has an entry in the log all the same.
            let _ = append.reply.send(Ok(receipt));
            (append.leaf, append.entry)
        });
        let leaves: Vec<_> = acknowledged.collect();
        self.shared.hand_over(leaves.into_iter());
        Ok(())
    }

    fn write(&mut self, batch: &[Append]) -> Result<(), Failure> {
        let mut after = self.frontier.clone();
        batch.iter().for_each(|append| after.push(append.leaf));
        let entries = batch.iter().map(|append| append.entry.as_slice());
        let bytes = journal::encode(&self.frontier, &after, entries, &self.signer);
        let is_full = self.length + bytes.len() as u64 > self.segment_len || self.segment.yields(bytes.len());
        if self.length > 0 && is_full {
            self.next_segment().map_err(|error| self.shared.fail(Step::Write, error))?;
        }
        let written = self.segment.append(&bytes).map_err(|error| self.shared.fail(Step::Write, error));
        let durable = written.and_then(|()| self.segment.sync().map_err(|error| self.shared.fail(Step::Sync, error)));
        if durable.is_err() {
            // These entries are refused, so they should not be found when the log is opened again. Where this fails as well, they may be.
            let _ = self.segment.truncate(self.length);
        }
        durable?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn next_segment(&mut self) -> io::Result<()> {
        let first = self.frontier.size();
        let path = self.journal.join(journal::segment_name(first));
        self.segment = self.storage.segment(&path)?;
        self.length = 0;
        self.shared.update(|pending| pending.segments.push((first, path)));
        Ok(())
    }
}

/// Takes what waits behind `first` and fits into one batch; a command that is no append ends it.
fn gather(first: Command, commands: &mut mpsc::Receiver<Command>) -> (Vec<Append>, Option<Command>) {
    let mut batch = Vec::new();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(command) = next {
        let Command::Append(append) = command else { return (batch, Some(command)) };
        bytes += append.entry.len();
        batch.push(append);
        let full = batch.len() == MAX_BATCH_ENTRIES || bytes >= FULL_BATCH_LEN;
        next = if full { None } else { commands.try_recv().ok() };
    }
    (batch, None)
}
